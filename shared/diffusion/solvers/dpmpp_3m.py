"""DPM-Solver++ 3M: order 3 with one call a step, from the two calls before.

The authors' code and diffusers take half of the second derivative (their D2 lacks a factor 2) and
so have order 2; here it is whole.
"""

import math
from itertools import pairwise

from torch import Tensor

from shared.diffusion.base import Denoise, Noise


def solve(denoise: Denoise, x_NCHW: Tensor, sigmas_S: Tensor, noise: Noise) -> Tensor:
    """Follow the probability flow with order 3; orders 1 and 2 lead in, the step to 0 has order 1.

    Reference: Lu et al. 2022 (arXiv 2211.01095), the multistep solver with lambda = -ln(sigma).
    """
    before: list[tuple[Tensor, float]] = []
    for sigma, below in pairwise(sigmas_S):
        estimate_NCHW, ratio = denoise(x_NCHW, sigma), float(below / sigma)
        x_NCHW = ratio * x_NCHW + (1.0 - ratio) * estimate_NCHW
        if below == 0:
            break
        length = -math.log(ratio)
        if len(before) == 1:
            slope_NCHW = (estimate_NCHW - before[0][0]) * (length / before[0][1])
            x_NCHW = x_NCHW + 0.5 * (1.0 - ratio) * slope_NCHW
        elif before:
            x_NCHW = x_NCHW + _bent(estimate_NCHW, before, length)
        before = [(estimate_NCHW, length), *before[:1]]
    return x_NCHW


def _bent(estimate_NCHW: Tensor, before: list[tuple[Tensor, float]], length: float) -> Tensor:
    """The terms of h m' and h^2 m'' of the parabola through three estimates, in steps of h."""
    (last_NCHW, first), (older_NCHW, second) = before
    near, far = first / length, second / length
    near_NCHW = (estimate_NCHW - last_NCHW) / near
    far_NCHW = (last_NCHW - older_NCHW) / far
    bend_NCHW = 2.0 * (near_NCHW - far_NCHW) / (near + far)
    slope_NCHW = near_NCHW + near / 2.0 * bend_NCHW
    of_slope = math.expm1(-length) / length + 1.0
    of_bend = 0.5 - of_slope / length
    return of_slope * slope_NCHW + of_bend * bend_NCHW
