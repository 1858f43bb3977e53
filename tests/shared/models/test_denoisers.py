"""What every line of the table of denoisers keeps to."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from shared.errors import Code, EchoFedError
from shared.models import DENOISERS
from shared.models.flops import count_flop

STRUCTURES, VIEWS, CHANNELS = 4, 3, 2
SMALL: dict[str, dict[str, Any]] = {
    "spade_unet": {"width": 16, "mults": (1, 2), "attention": (1,), "hidden": 4},
    "adm": {"width": 16, "mults": (1, 2), "blocks": 1, "attention": (1,), "hidden": 4},
    "ddpmpp": {"width": 16, "mults": (1, 2), "blocks": 1, "hidden": 4},
    "ncsnpp": {"width": 16, "mults": (1, 2), "blocks": 1, "hidden": 4},
}
Question = tuple[Tensor, Tensor, Tensor, Tensor]


def build(name: str, *, seed: int = 0, trained: bool = True, **options: Any) -> nn.Module:
    torch.manual_seed(seed)
    made = DENOISERS[name](CHANNELS, STRUCTURES, VIEWS, **(SMALL[name] | options)).double().eval()
    if trained:  # layers that begin at zero would hide what stands before them
        for parameter in made.parameters():
            if parameter.count_nonzero() == 0:
                nn.init.normal_(parameter, std=0.1)
    return made


def question(num: int = 3, size_HW: tuple[int, int] = (8, 8), scale: int = 4) -> Question:
    generator = torch.Generator().manual_seed(1)
    height, width = size_HW
    x_NCHW = torch.randn(num, CHANNELS, height, width, generator=generator, dtype=torch.float64)
    noise_N = torch.rand(num, generator=generator, dtype=torch.float64)
    labels = torch.randint(STRUCTURES, (num, scale * height, scale * width), generator=generator)
    maps_NLHW = nn.functional.one_hot(labels, STRUCTURES).movedim(-1, 1).double()
    return x_NCHW, noise_N, maps_NLHW, torch.arange(num) % (VIEWS + 1)


@pytest.mark.parametrize("name", DENOISERS.names())
class TestDenoiserContract:
    @pytest.mark.parametrize("size_HW", [(8, 8), (4, 12), (6, 10)])
    def test_the_answer_has_the_shape_of_the_latent(
        self, name: str, size_HW: tuple[int, int]
    ) -> None:
        asked = question(size_HW=size_HW)
        assert build(name)(*asked).shape == asked[0].shape

    def test_the_first_answer_is_zero(self, name: str) -> None:
        assert build(name, trained=False)(*question()).abs().max() < 1e-3

    def test_same_seed_same_network_and_same_answer(self, name: str) -> None:
        asked = question()
        assert torch.equal(build(name, seed=7)(*asked), build(name, seed=7)(*asked))
        assert not torch.equal(build(name, seed=7)(*asked), build(name, seed=8)(*asked))

    def test_a_row_does_not_depend_on_its_batch(self, name: str) -> None:
        network, asked = build(name), question()
        together = network(*asked)
        for row in range(3):
            alone = network(*(part[row : row + 1] for part in asked))
            torch.testing.assert_close(together[row : row + 1], alone, rtol=0, atol=1e-12)

    def test_a_dropped_label_does_not_reach_the_answer(self, name: str) -> None:
        x_NCHW, noise_N, maps_NLHW, view_N = question()
        kept = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)[:, None, None, None]
        maps_NLHW.requires_grad_()
        build(name)(x_NCHW, noise_N, maps_NLHW * kept, view_N).square().sum().backward()
        assert maps_NLHW.grad is not None
        reached_N = maps_NLHW.grad.abs().amax(dim=(1, 2, 3)) > 0
        assert reached_N.tolist() == [True, False, True]

    def test_no_label_is_told_from_every_label(self, name: str) -> None:
        network, (x_NCHW, noise_N, maps_NLHW, view_N) = build(name), question()
        unlabelled = network(x_NCHW, noise_N, torch.zeros_like(maps_NLHW), view_N)
        for structure in range(STRUCTURES):
            everywhere = torch.zeros_like(maps_NLHW)
            everywhere[:, structure] = 1
            answer = network(x_NCHW, noise_N, everywhere, view_N)
            assert (answer - unlabelled).abs().amax(dim=(1, 2, 3)).min() > 1e-6

    def test_noise_and_view_are_heard(self, name: str) -> None:
        network, (x_NCHW, noise_N, maps_NLHW, view_N) = build(name), question()
        answer = network(x_NCHW, noise_N, maps_NLHW, view_N)
        louder = network(x_NCHW, noise_N + 0.01, maps_NLHW, view_N)
        untold = network(x_NCHW, noise_N, maps_NLHW, torch.full_like(view_N, VIEWS))
        assert (louder - answer).abs().amax(dim=(1, 2, 3)).min() > 1e-6
        assert (untold - answer).abs().amax(dim=(1, 2, 3)).min() > 1e-6

    def test_every_parameter_learns(self, name: str) -> None:
        network = build(name)
        network(*question(num=VIEWS + 1)).square().sum().backward()
        still = [
            key
            for key, parameter in network.named_parameters()
            if parameter.grad is None or parameter.grad.abs().max() == 0
        ]
        assert still == []

    @pytest.mark.parametrize(
        "wrong",
        [
            {"width": 0},
            {"width": 7},
            {"mults": ()},
            {"mults": (1, 0)},
            {"blocks": 0},
            {"attention": (2,)},
            {"hidden": 0},
            {"dropout": 1.0},
            {"depth": 3},
            {"width": "wide"},
            {"mults": 2},
            {"blocks": 1.5},
        ],
    )
    def test_options_that_cannot_be_are_refused(self, name: str, wrong: dict[str, Any]) -> None:
        with pytest.raises(EchoFedError) as refused:
            build(name, **wrong)
        assert refused.value.code is Code.CONFIG_INVALID

    def test_shapes_that_cannot_be_are_refused(self, name: str) -> None:
        network, (x_NCHW, noise_N, maps_NLHW, view_N) = build(name), question()
        for asked in (
            (x_NCHW[:, :1], noise_N, maps_NLHW, view_N),
            (x_NCHW[..., :7], noise_N, maps_NLHW, view_N),
            (x_NCHW, noise_N[:1], maps_NLHW, view_N),
            (x_NCHW, noise_N, maps_NLHW[:, :2], view_N),
            (x_NCHW, noise_N, maps_NLHW, view_N[:2]),
        ):
            with pytest.raises(EchoFedError) as refused:
                network(*asked)
            assert refused.value.code is Code.SHAPE_MISMATCH


@pytest.mark.parametrize("patch", [1, 2])
def test_patches_are_read_and_written_whole(patch: int) -> None:
    network = build("spade_unet", patch=patch)
    asked = question(size_HW=(8, 16), scale=1)
    answer = network(*asked)
    corners = [answer[..., row::2, column::2] for row in (0, 1) for column in (0, 1)]
    assert answer.shape == asked[0].shape
    assert all((one - corners[0]).abs().max() > 1e-3 for one in corners[1:])


SDM = {"width": 256, "mults": (1, 1, 2, 2, 4, 4), "blocks": 2, "attention": (3, 4, 5)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "size", "parameters", "flop"),
    [
        (SDM | {"learns_variance": True}, 256, 652e6, 3.42e12),
        ({"attention": (3,)}, 256, 359e6, 4.67e12),
        ({"attention": (2, 3)}, 128, 374e6, 1.21e12),
        ({"attention": (1, 2, 3)}, 64, 382e6, 0.326e12),
    ],
)
def test_the_published_networks_have_their_published_size(
    options: dict[str, Any], size: int, parameters: float, flop: float
) -> None:
    channels = 3 if "learns_variance" in options else 1
    with torch.device("meta"):
        network = DENOISERS["adm"](channels, 5 if channels == 3 else 10, 1, **options)
        asked = (
            torch.zeros(1, channels, size, size),
            torch.zeros(1),
            torch.zeros(1, 5 if channels == 3 else 10, 256, 256),
            torch.zeros(1, dtype=torch.int64),
        )
    # figures measured on the released code; its attention of SDM is not modulated by the map
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(parameters, rel=0.04)
    assert count_flop(lambda: network(*asked)) == pytest.approx(flop, rel=0.01)
