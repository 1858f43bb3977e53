"""Seeds, rows and guidance (V25, V27)."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from shared.diffusion import SOLVERS
from shared.diffusion.sample import guided, row_generators, row_noise, sample
from shared.diffusion.schedule import karras
from shared.testing.denoisers import Gaussian

LEVEL = torch.tensor(0.7, dtype=torch.float64)
SIGMAS_S = karras(6, 0.01, 40.0)


def drawn(seeds: list[int], dtype: torch.dtype = torch.float64) -> Tensor:
    return sample(
        Gaussian(0.3).denoise,
        (1, 4, 4),
        sigmas_S=SIGMAS_S,
        solver=SOLVERS["ancestral"],
        seeds_N=seeds,
        dtype=dtype,
    )


def test_rows_do_not_know_their_batch() -> None:
    """V25."""
    together = drawn([5, 6, 7, 8])
    chunks = torch.cat([drawn([5]), drawn([6, 7, 8])])
    assert torch.equal(together, chunks)
    assert torch.equal(drawn([8, 6]), together[[3, 1]])


def test_the_whole_of_a_long_seed_is_heard() -> None:
    assert not torch.equal(drawn([1]), drawn([1 + 2**32]))


def test_the_reference_has_the_noise_of_single_precision() -> None:
    double = row_noise(row_generators([3]), (1, 4, 4), torch.float64)()
    single = row_noise(row_generators([3]), (1, 4, 4), torch.float32)()
    assert torch.equal(double.float(), single)


def counted(value: float, calls: list[float]) -> Callable[[Tensor, Tensor], Tensor]:
    def denoise(x_NCHW: Tensor, sigma: Tensor) -> Tensor:
        calls.append(value)
        return value * x_NCHW + sigma

    return denoise


@pytest.mark.parametrize(("scale", "expected"), [(1.0, [0.9]), (0.0, [0.2]), (2.0, [0.2, 0.9])])
def test_guidance_asks_only_whom_it_needs(scale: float, expected: list[float]) -> None:
    """V27: 1 is the conditional denoiser, 0 the other one, bit for bit."""
    calls: list[float] = []
    x_NCHW = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0)).double()
    given = guided(counted(0.9, calls), counted(0.2, calls), scale)(x_NCHW, LEVEL)
    assert calls == expected
    with_label, without = (counted(value, [])(x_NCHW, LEVEL) for value in (0.9, 0.2))
    wanted = {1.0: with_label, 0.0: without, 2.0: 2.0 * with_label - without}[scale]
    assert torch.allclose(given, wanted, atol=1e-12)
    assert scale == 2.0 or torch.equal(given, wanted)
