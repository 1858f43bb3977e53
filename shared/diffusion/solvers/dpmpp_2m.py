"""DPM-Solver++ 2M: order 2 with one call a step, from the call before."""

import math
from itertools import pairwise

from torch import Tensor

from shared.diffusion.base import Denoise, Noise


def solve(denoise: Denoise, x_NCHW: Tensor, sigmas_S: Tensor, noise: Noise) -> Tensor:
    """Follow the probability flow with order 2; the first step and the one to 0 have order 1.

    Reference: Lu et al. 2022 (arXiv 2211.01095), algorithm 2, with lambda = -ln(sigma).
    """
    before: tuple[Tensor, float] | None = None
    for sigma, below in pairwise(sigmas_S):
        estimate_NCHW, ratio = denoise(x_NCHW, sigma), float(below / sigma)
        x_NCHW = ratio * x_NCHW + (1.0 - ratio) * estimate_NCHW
        if below == 0:
            break
        length = -math.log(ratio)
        if before is not None:
            slope_NCHW = (estimate_NCHW - before[0]) * (length / before[1])
            x_NCHW = x_NCHW + 0.5 * (1.0 - ratio) * slope_NCHW
        before = estimate_NCHW, length
    return x_NCHW
