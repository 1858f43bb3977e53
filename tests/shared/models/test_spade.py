import pytest
import torch
from torch import Tensor
from torch.nn.functional import group_norm

from shared.errors import Code, EchoFedError
from shared.models.spade import REACH, Spade, area_map, nearest_map

STRUCTURES, CHANNELS, SIZE = 5, 8, 16


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def one_hot(labels_NHW: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(labels_NHW, STRUCTURES).movedim(-1, 1).double()


def labels(num: int = 2, size: int = SIZE, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(STRUCTURES, (num, size, size), generator=generator)


def layer(seed: int = 0, *, trained: bool = True) -> Spade:
    torch.manual_seed(seed)
    made = Spade(CHANNELS, STRUCTURES, hidden=6, groups=4).double()
    if trained:
        for parameter in made.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return made


def test_an_edit_of_the_map_is_felt_within_its_reach_and_nowhere_else() -> None:
    spade, x_NCHW, before = layer(), draw(2, CHANNELS, SIZE, SIZE), labels()
    after = before.clone()
    after[:, 8, 8] = (after[:, 8, 8] + 1) % STRUCTURES
    changed = (spade(x_NCHW, one_hot(before)) != spade(x_NCHW, one_hot(after))).any(dim=1)
    near = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    near[8 - REACH : 9 + REACH, 8 - REACH : 9 + REACH] = True
    assert not changed[:, ~near].any()
    assert changed[:, near].all()


def test_an_edit_of_a_larger_map_stays_within_its_cells() -> None:
    spade, x_NCHW, before = layer(), draw(1, CHANNELS, SIZE, SIZE), labels(1, 4 * SIZE)
    after = before.clone()
    after[:, :4, :4] = (after[:, :4, :4] + 1) % STRUCTURES
    changed = (spade(x_NCHW, one_hot(before)) != spade(x_NCHW, one_hot(after))).any(dim=1)
    assert changed[0, 0, 0]
    assert not changed[:, 1 + REACH :].any()
    assert not changed[:, :, 1 + REACH :].any()


def test_the_order_of_structures_does_not_matter() -> None:
    spade, x_NCHW, maps = layer(), draw(2, CHANNELS, SIZE, SIZE), one_hot(labels())
    order = torch.tensor([3, 0, 4, 1, 2])
    turned = layer()
    turned.read.weight.data = turned.read.weight.data[:, order]
    answer, again = spade(x_NCHW, maps), turned(x_NCHW, maps[:, order])
    torch.testing.assert_close(answer, again, rtol=0, atol=1e-12)


def test_it_begins_as_the_plain_normalisation() -> None:
    x_NCHW = draw(2, CHANNELS, SIZE, SIZE)
    answer = layer(trained=False)(x_NCHW, one_hot(labels()))
    torch.testing.assert_close(answer, group_norm(x_NCHW, 4), rtol=0, atol=0)


def test_it_scales_and_shifts_as_the_paper_says() -> None:
    spade, x_NCHW, maps = layer(), draw(2, CHANNELS, SIZE, SIZE), one_hot(labels())
    gamma, beta = spade.modulate(spade.read(maps).clamp(min=0)).chunk(2, dim=1)
    grouped = x_NCHW.reshape(2, 4, -1)
    mean, variance = grouped.mean(-1, keepdim=True), grouped.var(-1, correction=0, keepdim=True)
    normal = (grouped - mean) / (variance + 1e-5).sqrt()
    expected = normal.reshape(x_NCHW.shape) * (1 + gamma) + beta
    torch.testing.assert_close(spade(x_NCHW, maps), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [1, 3, 8, 16])
def test_the_nearest_map_is_one_hot_and_nothing_stays_nothing(size: int) -> None:
    maps = one_hot(labels())
    maps[1] = 0
    small = nearest_map(maps, (size, size))
    assert torch.equal(small[0].sum(0), torch.ones(size, size, dtype=torch.float64))
    assert small[1].count_nonzero() == 0


def test_the_nearest_map_does_not_shift() -> None:
    maps = one_hot(labels(1, 9))
    assert torch.equal(nearest_map(maps.flip(-1), (3, 3)), nearest_map(maps, (3, 3)).flip(-1))


def test_the_area_map_keeps_a_wall_thinner_than_a_cell() -> None:
    labelled = torch.zeros(1, SIZE, SIZE, dtype=torch.int64)
    labelled[:, :, 4] = 1
    shares = area_map(one_hot(labelled), (4, 4))
    assert torch.equal(shares[0, 1], torch.tensor([0, 0.25, 0, 0]).expand(4, 4).double())
    torch.testing.assert_close(shares.sum(1), torch.ones(1, 4, 4, dtype=torch.float64))


@pytest.mark.parametrize("channels", [0, 6])
def test_channels_that_the_groups_cannot_share_are_refused(channels: int) -> None:
    with pytest.raises(EchoFedError) as refused:
        Spade(channels, STRUCTURES, hidden=6, groups=4)
    assert refused.value.code is Code.CONFIG_INVALID
