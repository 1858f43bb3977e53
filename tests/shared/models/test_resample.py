import pytest
import torch
from torch.nn.functional import avg_pool2d, interpolate

from shared.models.resample import MEAN, SMOOTH, Resample

X_NCHW = torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_the_short_filter_takes_means_and_repeats() -> None:
    smaller = Resample(MEAN, grows=False)(X_NCHW)
    torch.testing.assert_close(smaller, avg_pool2d(X_NCHW, 2), rtol=0, atol=1e-12)
    assert torch.equal(Resample(MEAN, grows=True)(X_NCHW), interpolate(X_NCHW, scale_factor=2))


@pytest.mark.parametrize("taps", [MEAN, SMOOTH])
@pytest.mark.parametrize("grows", [False, True])
def test_a_constant_stays_itself_within_the_edge(taps: tuple[int, ...], *, grows: bool) -> None:
    changed = Resample(taps, grows=grows)(torch.full_like(X_NCHW, 0.7))
    assert changed.shape[-2:] == ((16, 24) if grows else (4, 6))
    inner = changed[..., 1:-1, 1:-1]
    torch.testing.assert_close(inner, torch.full_like(inner, 0.7), rtol=0, atol=1e-7)


@pytest.mark.parametrize("taps", [MEAN, SMOOTH])
@pytest.mark.parametrize("grows", [False, True])
def test_nothing_moves_to_one_side(taps: tuple[int, ...], *, grows: bool) -> None:
    resample = Resample(taps, grows=grows)
    mirrored = resample(X_NCHW.flip(-1, -2)).flip(-1, -2)
    torch.testing.assert_close(resample(X_NCHW), mirrored, rtol=0, atol=1e-12)
