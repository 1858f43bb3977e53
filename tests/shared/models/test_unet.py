import pytest
import torch
from torch import Tensor

from shared.errors import Code, EchoFedError
from shared.models import SEGMENTERS
from shared.models.unet import UNet


def frames(num: int, size_HW: tuple[int, int], seed: int = 0) -> Tensor:
    return torch.randn(num, 1, *size_HW, generator=torch.Generator().manual_seed(seed))


def network(
    seed: int = 0, *, width: int = 8, depth: int = 3, num_outputs: int = 4, patch: int = 1
) -> UNet:
    torch.manual_seed(seed)
    return UNet(num_outputs, width=width, depth=depth, patch=patch)


@pytest.mark.parametrize("patch", [1, 2, 3])
@pytest.mark.parametrize("size_HW", [(64, 64), (40, 56), (37, 51), (7, 5), (1, 90)])
def test_logits_have_the_size_of_the_frame(size_HW: tuple[int, int], patch: int) -> None:
    assert network(patch=patch)(frames(2, size_HW)).shape == (2, 4, *size_HW)


@pytest.mark.parametrize(("patch", "right"), [(1, 5), (5, 29)])
def test_padding_inside_is_the_edge_repeated_outside(patch: int, right: int) -> None:
    image, model = frames(2, (37, 51)), network(patch=patch)
    padded = torch.nn.functional.pad(image, (0, right, 0, 3), mode="replicate")
    assert torch.equal(model(image), model(padded)[..., :37, :51])


def test_every_pixel_of_a_patch_has_an_answer_of_its_own() -> None:
    model = network(patch=2).double()
    model.head.head.weight.data.normal_(generator=torch.Generator().manual_seed(1))
    answer = model(frames(1, (32, 32)).double())
    corners = [answer[..., row::2, column::2] for row in (0, 1) for column in (0, 1)]
    assert all((one - corners[0]).abs().max() > 1e-3 for one in corners[1:])


def test_parameters_are_those_of_the_layers() -> None:
    width, outputs = 8, 4
    pair = lambda into, out: 9 * into * out + 9 * out * out + 4 * out  # noqa: E731
    expected = pair(1, width) + pair(width, 2 * width)  # stem and one level down
    expected += 4 * 2 * width * width + pair(2 * width, width)  # up and join
    expected += outputs * width + outputs
    model = network(width=width, depth=1, num_outputs=outputs)
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


def test_no_level_is_wider_than_512() -> None:
    widest = max(
        parameter.shape[0] for parameter in UNet(2, width=64, depth=5).trunk.down.parameters()
    )
    assert widest == 512


def test_same_seed_same_network_and_same_answer() -> None:
    image = frames(2, (32, 32))
    one, other = network(7), network(7)
    assert torch.equal(one(image), other(image))
    assert not torch.equal(one(image), network(8)(image))


def test_a_frame_does_not_depend_on_its_batch() -> None:
    model, image = network().double(), frames(4, (32, 32)).double()
    torch.testing.assert_close(model(image)[1:2], model(image[1:2]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("patch", [1, 4])
def test_first_logits_neither_vanish_nor_explode(patch: int) -> None:
    logits = network(width=32, patch=patch)(frames(2, (64, 64)))
    assert 0.3 < logits.std() < 2.0


def test_every_parameter_learns() -> None:
    model = network()
    model(frames(1, (32, 32))).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


def test_a_pixel_sees_far() -> None:
    """What lies half a picture away changes a logit: without the deep levels it could not."""
    model, image = network(depth=4).double(), frames(1, (64, 64)).double().requires_grad_()
    (gradient,) = torch.autograd.grad(model.trunk(image)[0, :, 2, 2].sum(), image)
    near, far = gradient[0, 0, 2, 2].abs(), gradient[0, 0, 40, 40].abs()
    assert near > 0
    assert far > 0


def test_state_returns_the_same_network() -> None:
    model, other = network(1), network(2)
    other.load_state_dict(model.state_dict())
    image = frames(1, (32, 32))
    assert torch.equal(model(image), other(image))


def test_table_builds_it() -> None:
    assert SEGMENTERS["unet"] is UNet


@pytest.mark.parametrize(("width", "depth"), [(12, 3), (0, 3), (8, 0)])
def test_impossible_sizes_are_refused(width: int, depth: int) -> None:
    with pytest.raises(EchoFedError) as caught:
        UNet(3, width=width, depth=depth)
    assert caught.value.code is Code.CONFIG_INVALID
