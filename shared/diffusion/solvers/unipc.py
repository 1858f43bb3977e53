"""UniPC: predict the next point, ask there once, and correct the step that led there.

Zhao et al. 2023 (arXiv 2302.04867), data prediction, B(h) = exp(-h) - 1 ("bh2").
"""

import math
from itertools import pairwise

import torch
from torch import Tensor

from shared.diffusion.base import Denoise


def correct_and_predict(
    denoise: Denoise, x_NCHW: Tensor, sigmas_S: Tensor, *, order: int
) -> Tensor:
    """Follow the probability flow; lower orders lead in, the step to 0 has order 1.

    A corrected step takes the call that the next step needs anyway, so it costs none.
    """
    known: list[tuple[float, Tensor]] = []  # lambda and estimate, the newest first
    start_NCHW = x_NCHW
    for sigma, below in pairwise(sigmas_S):
        now = -math.log(float(sigma)), denoise(x_NCHW, sigma)
        if known:
            x_NCHW = _advanced(start_NCHW, known, now[0], ahead=now)
        known = [now, *known[: order - 1]]
        if below == 0:
            return now[1]
        start_NCHW = x_NCHW
        x_NCHW = _advanced(start_NCHW, known, -math.log(float(below)), ahead=None)
    return x_NCHW


def _advanced(
    x_NCHW: Tensor,
    known: list[tuple[float, Tensor]],
    until: float,
    *,
    ahead: tuple[float, Tensor] | None,
) -> Tensor:
    """Step to lambda ``until`` from the newest known place; with the estimate there, corrected."""
    start, estimate_NCHW = known[0]
    length = until - start
    shrink = -math.expm1(-length)  # 1 - exp(-h)
    others = [*known[1:], ahead] if ahead else known[1:]
    places = [(place - start) / length for place, _ in others]
    slopes = [
        (other - estimate_NCHW) / place for (_, other), place in zip(others, places, strict=True)
    ]
    step_NCHW = (1.0 - shrink) * x_NCHW + shrink * estimate_NCHW
    for weight, slope_NCHW in zip(_weights(places, length), slopes, strict=True):
        step_NCHW = step_NCHW + shrink * weight * slope_NCHW
    return step_NCHW


def _weights(places: list[float], length: float) -> list[float]:
    """Weights of the slopes to other places, in steps; one slope alone counts a half."""
    if len(places) < 2:
        return [0.5] * len(places)
    share, factorial, moments = math.expm1(-length) / -length - 1.0, 1.0, []
    for power in range(1, len(places) + 1):
        moments.append(share * factorial / math.expm1(-length))
        factorial *= power + 1
        share = share / -length - 1.0 / factorial
    powers = torch.tensor(places, dtype=torch.float64) ** torch.arange(len(places))[:, None]
    solved = torch.linalg.solve(powers, torch.tensor(moments, dtype=torch.float64))
    return [float(weight) for weight in solved]
