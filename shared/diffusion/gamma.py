"""Gamma noise in place of normal noise (DDGM), in the same frame: x = x0 + sigma * noise.

The paper's law x_t = sqrt(abar) x0 + G - kbar theta_t, with theta_t = sqrt(abar) theta_0 and
kbar = (1 / abar - 1) / theta_0^2, reads here: x = x0 + theta (G - k) with G ~ Gamma(k, 1) and
k = (sigma / theta)^2. So noise of a higher level is that of a lower one plus an independent gamma
draw, and all levels share one scale. Noise has mean 0, variance sigma^2, skewness 2 theta / sigma:
with the 0.001 of re-implementations it is normal for all that can be seen.

Reference: Nachmani, San Roman and Wolf 2021 (arXiv 2110.05948). The posterior is exact, by the beta
law of a gamma draw's share in a sum; it is not in the paper.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.diffusion.base import Denoise
from shared.diffusion.sample import row_generators
from shared.diffusion.solvers.ancestral import posterior_deviation, step_mean
from shared.errors import Code, EchoFedError

Generators = Sequence[np.random.Generator]


@dataclass(frozen=True, slots=True)
class GammaNoise:
    """Noise of one scale. Draws are float64: shapes reach 1e10, where half precision sees no noise.

    Args:
        theta: scale of the draws in units of the normalised latent; the larger the more skewed.
    """

    theta: float

    def __post_init__(self) -> None:
        """Refuse a scale that is none."""
        if not 0.0 < self.theta < float("inf"):
            raise EchoFedError(
                Code.CONFIG_INVALID,
                f"gamma noise has no scale {self.theta:g}",
                "a scale is above 0; from 0.1 on the noise differs from normal noise",
            )

    def shape_at(self, sigma: float) -> float:
        """Shape k of the draw that makes the noise of a level."""
        return (sigma / self.theta) ** 2

    def unit(self, sigma_N: Tensor, shape_CHW: tuple[int, int, int], rows: Generators) -> Tensor:
        """Noise (N, C, H, W) of mean 0 and variance 1 with the skewness of each row's level.

        It is what the denoising loss takes in place of normal noise; float64.
        """
        shapes = [self.shape_at(float(sigma)) for sigma in sigma_N]
        return torch.from_numpy(
            np.stack(
                [
                    _centred(generator, shape, shape_CHW) / shape**0.5
                    for generator, shape in zip(rows, shapes, strict=True)
                ]
            )
        )

    def raised(self, x_NCHW: Tensor, sigma: float, above: float, rows: Generators) -> Tensor:
        """A step forward, from data plus noise of a level (0 for data) to a higher level."""
        shape = self.shape_at(above) - self.shape_at(sigma)
        noise = _by_row(rows, x_NCHW, lambda row, size: _centred(row, shape, size))
        return x_NCHW + self.theta * noise

    def lowered(
        self, x_NCHW: Tensor, clean_NCHW: Tensor, sigmas: tuple[float, float], rows: Generators
    ) -> Tensor:
        """A draw from the exact posterior of a lower level, given x and x0.

        G of the lower level is a share of G that is Beta(k of the lower level, the rest of k) and
        does not depend on G. For an estimate of x0 above what x allows, G counts as 0.

        Args:
            x_NCHW: data plus noise of the level sigmas[0].
            clean_NCHW: the data, or their estimate.
            sigmas: the level of x and the lower one; at 0 the data are given back.
            rows: a generator for each row.
        """
        shape, lower = (self.shape_at(sigma) for sigma in sigmas)
        if lower == 0.0:
            return clean_NCHW
        total_NCHW = ((x_NCHW - clean_NCHW) / self.theta + shape).clamp(min=0.0)
        share = _by_row(rows, x_NCHW, lambda row, size: row.beta(lower, shape - lower, size))
        return clean_NCHW + self.theta * (total_NCHW * share - lower)

    def sample(
        self,
        denoise: Denoise,
        shape_CHW: tuple[int, int, int],
        *,
        sigmas_S: Tensor,
        seeds_N: Sequence[int],
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Draw one sample (N, C, H, W) for each seed by the paper's ancestral steps.

        Mean and deviation of a step are DDPM's, its noise is that of the lower level, of variance 1
        (algorithm 2 of the paper). Rows do not depend on one another.
        """
        rows = row_generators(seeds_N)
        with torch.no_grad():
            x_NCHW = torch.zeros(len(rows), *shape_CHW, dtype=dtype)
            x_NCHW = self.raised(x_NCHW, 0.0, float(sigmas_S[0]), rows)
            for sigma, below in pairwise(sigmas_S):
                x_NCHW = step_mean(denoise, x_NCHW, sigma, below)
                if below > 0:
                    noise = self.unit(below.expand(len(rows)), shape_CHW, rows).to(dtype)
                    x_NCHW = x_NCHW + posterior_deviation(sigma, below) * noise
        return x_NCHW

    def conjugate_denoise(self, x_NCHW: Tensor, sigma: Tensor, shape: float) -> Tensor:
        """The mean of x0 given x for data of Gamma(shape) times theta, in closed form.

        Data and noise then are shares of one gamma draw. It is what tests hold networks against.
        """
        noise_shape = self.shape_at(float(sigma))
        return (x_NCHW + noise_shape * self.theta) * (shape / (shape + noise_shape))


def _centred(
    generator: np.random.Generator, shape: float, size: tuple[int, ...]
) -> NDArray[np.float64]:
    return generator.standard_gamma(shape, size) - shape


def _by_row(
    rows: Generators,
    like_NCHW: Tensor,
    draw: Callable[[np.random.Generator, tuple[int, ...]], NDArray[np.float64]],
) -> Tensor:
    size = tuple(like_NCHW.shape[1:])
    return torch.from_numpy(np.stack([draw(row, size) for row in rows])).to(like_NCHW)
