"""From seeds to samples; a row depends on its own seed alone, however rows are put together."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from shared.diffusion.base import Denoise, Noise, Solver
from shared.shapes import expect


def sample(
    denoise: Denoise,
    shape_CHW: tuple[int, int, int],
    *,
    sigmas_S: Tensor,
    solver: Solver,
    seeds_N: Sequence[int],
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Draw one sample for each seed.

    The state stays on the CPU; a denoiser that computes elsewhere takes it there and gives back.
    float64 is the reference: its noise is that of float32 before rounding.

    Args:
        denoise: whose rows do not depend on one another.
        shape_CHW: of one sample.
        sigmas_S: falling noise levels, the last one 0.
        solver: a line of ``SOLVERS``.
        seeds_N: of 64 bits, none below 0.
        dtype: of the state.

    Returns:
        Samples (N, C, H, W).
    """
    expect(sigmas_S, "S")
    noise = row_noise(row_generators(seeds_N), shape_CHW, dtype)
    with torch.no_grad():
        return solver(denoise, float(sigmas_S[0]) * noise(), sigmas_S, noise)


def row_generators(seeds_N: Sequence[int]) -> list[np.random.Generator]:
    """A generator for each seed.

    They are NumPy's: torch's on the CPU hears the lower 32 bits of a seed only.
    """
    return [np.random.default_rng(int(seed)) for seed in seeds_N]


def row_noise(
    generators: Sequence[np.random.Generator], shape_CHW: tuple[int, int, int], dtype: torch.dtype
) -> Noise:
    """Standard normal noise (N, C, H, W), each row from its own generator, drawn in float64."""

    def draw() -> Tensor:
        rows = [generator.standard_normal(shape_CHW) for generator in generators]
        return torch.from_numpy(np.stack(rows)).to(dtype)

    return draw


def guided(conditional: Denoise, unconditional: Denoise, scale: float) -> Denoise:
    """Lead the conditional denoiser away from the unconditional one.

    Args:
        conditional: knows the label.
        unconditional: does not, or is a weaker network.
        scale: 1 is the conditional denoiser alone, 0 the other one alone, each asked once.

    Reference: Ho and Salimans 2022 (arXiv 2207.12598), with 1 + w for the scale.
    """
    if scale == 1.0:
        return conditional
    if scale == 0.0:
        return unconditional

    def denoise(x_NCHW: Tensor, sigma: Tensor) -> Tensor:
        free_NCHW = unconditional(x_NCHW, sigma)
        return free_NCHW + scale * (conditional(x_NCHW, sigma) - free_NCHW)

    return denoise
