"""Denoisers in closed form: of a normal law and of a mixture, with their probability flow."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import norm
from torch import Tensor

from shared.diffusion.base import Noise, Solver


@dataclass(frozen=True, slots=True)
class Gaussian:
    """Pixels that are independent normal draws."""

    mean: float = 0.0
    deviation: float = 0.5

    def denoise(self, x_NCHW: Tensor, sigma: Tensor) -> Tensor:
        """The mean of x0 given x."""
        gain = self.deviation**2 / (self.deviation**2 + float(sigma) ** 2)
        return self.mean + gain * (x_NCHW - self.mean)

    def carried(self, x_NCHW: Tensor, first: float, last: float) -> Tensor:
        """Where the probability flow leads x from one noise level to another (V9)."""
        widths = [math.hypot(self.deviation, level) for level in (first, last)]
        return self.mean + (x_NCHW - self.mean) * (widths[1] / widths[0])


@dataclass(frozen=True, slots=True)
class Mixture:
    """Pixels that are independent draws of a mixture of two normal laws."""

    means: tuple[float, float] = (-0.6, 0.9)
    deviations: tuple[float, float] = (0.2, 0.35)
    shares: tuple[float, float] = (0.35, 0.65)

    def log_density(self, x_NCHW: Tensor, sigma: Tensor) -> Tensor:
        """Of x at a noise level."""
        return torch.logsumexp(self._parts(x_NCHW, sigma), dim=0)

    def share_below(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The distribution function of the data."""
        parts = [
            share * norm.cdf(x, mean, deviation)
            for mean, deviation, share in zip(self.means, self.deviations, self.shares, strict=True)
        ]
        below: NDArray[np.float64] = np.sum(parts, axis=0)
        return below

    def denoise(self, x_NCHW: Tensor, sigma: Tensor) -> Tensor:
        """The mean of x0 given x, by responsibilities."""
        charge = torch.softmax(self._parts(x_NCHW, sigma), dim=0)
        means = [
            Gaussian(mean, deviation).denoise(x_NCHW, sigma)
            for mean, deviation in zip(self.means, self.deviations, strict=True)
        ]
        return (charge * torch.stack(means)).sum(dim=0)

    def _parts(self, x_NCHW: Tensor, sigma: Tensor) -> Tensor:
        parts = []
        for mean, deviation, share in zip(self.means, self.deviations, self.shares, strict=True):
            width = math.hypot(deviation, float(sigma))
            parts.append(math.log(share / width) - 0.5 * ((x_NCHW - mean) / width) ** 2)
        return torch.stack(parts)


def end_deviation(solver: Solver, law: Gaussian, sigmas_S: Tensor) -> float:
    """Deviation of what a solver draws, exactly: for a normal law each draw is a sum of noises.

    The sum's weights are carried along as a vector: a place for the start, one for each step.
    """
    assert law.mean == 0.0
    noises = _unit_noises(len(sigmas_S))
    with torch.no_grad():
        weights = solver(law.denoise, float(sigmas_S[0]) * noises(), sigmas_S, noises)
    return float(weights.norm())


def _unit_noises(num: int) -> Noise:
    rows = iter(torch.eye(num, dtype=torch.float64).reshape(num, 1, 1, 1, num))
    return lambda: next(rows)
