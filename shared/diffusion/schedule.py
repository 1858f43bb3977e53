"""Noise levels: the thousand of DDPM, and those at which a sampler asks the network."""

import math
from functools import cache

import torch
from torch import Tensor

from shared.errors import Code, EchoFedError

NUM_LEVELS = 1000  # T of DDPM
_RHO = 7.0  # Karras et al. 2022, table 1
_MAX_BETA = 0.999  # Nichol and Dhariwal 2021
_OFFSET = 0.008  # s of the cosine schedule, same paper
_NEAR = 1e-4  # a bound that is out of the thousand levels by less is a rounded one


def karras(num_steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """Levels that lie evenly in sigma^(1/7): dense where images get their details.

    Reference: Karras et al. 2022 (arXiv 2206.00364), equation 5.
    """
    _expect_range(num_steps, sigma_min, sigma_max)
    first, last = sigma_max ** (1 / _RHO), sigma_min ** (1 / _RHO)
    return _ended(_line(first, last, num_steps) ** _RHO)


def cosine(num_steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """The cosine schedule's levels, respaced evenly in time."""
    return _respaced(cosine_levels(), num_steps, sigma_min, sigma_max)


def linear(num_steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """The levels of DDPM's linear schedule, respaced evenly in time."""
    return _respaced(linear_levels(), num_steps, sigma_min, sigma_max)


def flow(num_steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """Levels that lie evenly in the time t = sigma / (1 + sigma) of rectified flow.

    The last step goes from sigma_min to 0. With sigma_min = 1 / (num_steps - 1) all are about
    equal, as in the usual grid of flow matching.
    """
    _expect_range(num_steps, sigma_min, sigma_max)
    time_S = _line(sigma_max / (1.0 + sigma_max), sigma_min / (1.0 + sigma_min), num_steps)
    return _ended(time_S / (1.0 - time_S))


@cache
def cosine_levels() -> Tensor:
    """The thousand rising levels (T,) of the cosine schedule, 0.0064 to 2.0e4, in float64.

    Reference: Nichol and Dhariwal 2021 (arXiv 2102.09672), equation 17, beta at most 0.999.
    """
    time = torch.arange(NUM_LEVELS + 1, dtype=torch.float64) / NUM_LEVELS
    kept = torch.cos((time + _OFFSET) / (1.0 + _OFFSET) * math.pi / 2) ** 2
    return _levels((1.0 - kept[1:] / kept[:-1]).clamp(max=_MAX_BETA))


@cache
def linear_levels() -> Tensor:
    """The thousand rising levels (T,) of the linear schedule, 0.01 to 157, in float64.

    Reference: Ho et al. 2020 (arXiv 2006.11239), beta from 1e-4 to 0.02.
    """
    return _levels(torch.linspace(1e-4, 0.02, NUM_LEVELS, dtype=torch.float64))


def place_of(sigma_N: Tensor, levels_T: Tensor) -> Tensor:
    """Where noise levels lie among rising ones: 0 for the first, T - 1 for the last, float64.

    Between two levels the place is linear in ln sigma; beyond the ends it is that of the end.
    """
    log_T = levels_T.to(sigma_N.device).log()
    log_N = sigma_N.double().log().clamp(log_T[0], log_T[-1])
    above_N = torch.searchsorted(log_T, log_N).clamp(1, len(log_T) - 1)
    below_N = above_N - 1
    return below_N + (log_N - log_T[below_N]) / (log_T[above_N] - log_T[below_N])


def _respaced(levels_T: Tensor, num_steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    _expect_range(num_steps, sigma_min, sigma_max)
    low, high = float(levels_T[0]), float(levels_T[-1])
    if sigma_min < low * (1.0 - _NEAR) or sigma_max > high * (1.0 + _NEAR):
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"this schedule has no noise levels from {sigma_min:g} to {sigma_max:g}",
            f"it has those from {low:.4g} to {high:.4g}",
        )
    ends = place_of(torch.tensor([sigma_max, sigma_min], dtype=torch.float64), levels_T)
    place_S = _line(float(ends[0]), float(ends[1]), num_steps)
    below_S = place_S.floor().clamp(max=len(levels_T) - 2).long()
    log_T = levels_T.log()
    return _ended(torch.lerp(log_T[below_S], log_T[below_S + 1], place_S - below_S).exp())


def _levels(beta_T: Tensor) -> Tensor:
    kept_T = (1.0 - beta_T).cumprod(0)
    return ((1.0 - kept_T) / kept_T).sqrt()


def _line(first: float, last: float, num: int) -> Tensor:
    return torch.linspace(first, last, num, dtype=torch.float64)


def _ended(sigma_S: Tensor) -> Tensor:
    return torch.cat([sigma_S, sigma_S.new_zeros(1)])


def _expect_range(num_steps: int, sigma_min: float, sigma_max: float) -> None:
    if num_steps < 1 or not 0.0 < sigma_min < sigma_max < math.inf:
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"{num_steps} steps from noise {sigma_max:g} to {sigma_min:g} are no schedule",
            "ask for a step or more and for 0 < sigma_min < sigma_max",
        )
