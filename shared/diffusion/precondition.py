"""Wrappings that make a network a denoiser, each with the noise levels at which it learns.

All are those of Karras et al. 2022 (arXiv 2206.00364, table 1), written for data of any deviation:
a wrapping of data of unit deviation is applied to x / sigma_data. The weight is 1 / c_out^2
throughout, so the loss is the plain squared error of what the network answers: of the noise, of the
velocity, of the flow, or of EDM's target of unit variance.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from shared.diffusion.base import Coefficients, Network, Precondition
from shared.diffusion.schedule import NUM_LEVELS, cosine_levels, linear_levels, place_of

_EDM_MEAN, _EDM_DEVIATION = -1.2, 1.2  # of ln sigma at _EDM_DATA, Karras et al. 2022
_EDM_DATA = 0.5
_VE_LOW, _VE_HIGH = 0.02, 100.0  # same table, data of deviation 0.5


def denoised(
    network: Network, precondition: Precondition, x_NCHW: Tensor, sigma_N: Tensor
) -> Tensor:
    """The denoiser D(x; sigma), in the dtype of x whatever that of the network's answer is."""
    c_skip, c_out, c_in, c_noise = (
        coefficient.to(x_NCHW) for coefficient in precondition.coefficients(sigma_N)
    )
    answer_NCHW = network(wide(c_in) * x_NCHW, c_noise).to(x_NCHW.dtype)
    return wide(c_skip) * x_NCHW + wide(c_out) * answer_NCHW


@dataclass(frozen=True, slots=True)
class _Wrapping(ABC):
    """What all wrappings share; the deviation of the clean data is the one thing they keep."""

    sigma_data: float

    @abstractmethod
    def coefficients(self, sigma_N: Tensor) -> Coefficients:
        """The wrapping at some noise levels, each (N,)."""

    def weight(self, sigma_N: Tensor) -> Tensor:
        """Weight (N,) of the squared error of D under which that of the network counts once."""
        return self.coefficients(sigma_N).c_out ** -2


class Edm(_Wrapping):
    """Input, answer and weighted error of unit variance at every noise level."""

    def coefficients(self, sigma_N: Tensor) -> Coefficients:
        """Karras et al. 2022, table 1; c_noise = ln(sigma) / 4."""
        c_skip, c_out, c_in = _rotation(sigma_N, self.sigma_data)
        return Coefficients(c_skip, c_out, c_in, sigma_N.log() / 4.0)

    def draw_sigma(self, num: int, generator: torch.Generator) -> Tensor:
        """Logarithms are normal about -1.2 with deviation 1.2, for data of deviation 0.5."""
        log_N = _EDM_MEAN + _EDM_DEVIATION * _normal(num, generator)
        return (log_N.exp() * (self.sigma_data / _EDM_DATA)).float()


class Eps(_Wrapping):
    """The network answers with the noise; levels of the cosine schedule, uniform in time."""

    def coefficients(self, sigma_N: Tensor) -> Coefficients:
        """D = x - sigma F; c_noise is the time in (0, 1]."""
        return _noise_answered(sigma_N, self.sigma_data, cosine_levels())

    def draw_sigma(self, num: int, generator: torch.Generator) -> Tensor:
        """One of the thousand levels of the cosine schedule."""
        return _drawn_level(cosine_levels(), self.sigma_data, num, generator)


class VariancePreserving(_Wrapping):
    """The network answers with the noise; levels of the linear schedule, uniform in time."""

    def coefficients(self, sigma_N: Tensor) -> Coefficients:
        """D = x - sigma F; c_noise is the time in (0, 1]."""
        return _noise_answered(sigma_N, self.sigma_data, linear_levels())

    def draw_sigma(self, num: int, generator: torch.Generator) -> Tensor:
        """One of the thousand levels of the linear schedule."""
        return _drawn_level(linear_levels(), self.sigma_data, num, generator)


class VarianceExploding(_Wrapping):
    """The network answers with the noise and sees x itself; levels uniform in ln sigma."""

    def coefficients(self, sigma_N: Tensor) -> Coefficients:
        """D = x + sigma F; c_noise = ln(sigma / 2) / 4, a quarter of the table's for its scale."""
        one_N = torch.ones_like(sigma_N)
        return Coefficients(one_N, sigma_N, one_N, (sigma_N / 2.0).log() / 4.0)

    def draw_sigma(self, num: int, generator: torch.Generator) -> Tensor:
        """From 0.02 to 100 for data of deviation 0.5."""
        place_N = _uniform(num, generator)
        sigma_N = _VE_LOW * (_VE_HIGH / _VE_LOW) ** place_N
        return (sigma_N * (self.sigma_data / _EDM_DATA)).float()


class Velocity(_Wrapping):
    """The network answers with v = sqrt(abar) noise - sqrt(1 - abar) x0 (arXiv 2202.00512)."""

    def coefficients(self, sigma_N: Tensor) -> Coefficients:
        """EDM's with the sign of v; c_noise is the time in (0, 1] of the cosine schedule."""
        c_skip, c_out, c_in = _rotation(sigma_N, self.sigma_data)
        c_noise = _time(sigma_N, self.sigma_data, cosine_levels())
        return Coefficients(c_skip, -c_out, c_in, c_noise)

    def draw_sigma(self, num: int, generator: torch.Generator) -> Tensor:
        """One of the thousand levels of the cosine schedule."""
        return _drawn_level(cosine_levels(), self.sigma_data, num, generator)


class Flow(_Wrapping):
    """Rectified flow x_t = (1 - t) x0 + t noise; the network answers with noise - x0.

    The sign is that of diffusers, time 1 is noise; MONAI's network answers with x0 - noise.
    """

    def coefficients(self, sigma_N: Tensor) -> Coefficients:
        """Time t = sigma / (1 + sigma) for data of unit deviation; c_noise = t."""
        share_N = 1.0 / (1.0 + sigma_N / self.sigma_data)
        return Coefficients(
            share_N,
            -sigma_N * share_N,
            share_N / self.sigma_data,
            sigma_N / self.sigma_data * share_N,
        )

    def draw_sigma(self, num: int, generator: torch.Generator) -> Tensor:
        """The logit of t is standard normal (Esser et al. 2024, arXiv 2403.03206)."""
        return (_normal(num, generator).exp() * self.sigma_data).float()


def _rotation(sigma_N: Tensor, sigma_data: float) -> tuple[Tensor, Tensor, Tensor]:
    total_N = (sigma_N**2 + sigma_data**2).sqrt()
    return (sigma_data / total_N) ** 2, sigma_N * sigma_data / total_N, 1.0 / total_N


def _noise_answered(sigma_N: Tensor, sigma_data: float, levels_T: Tensor) -> Coefficients:
    c_in = 1.0 / (sigma_N**2 + sigma_data**2).sqrt()
    return Coefficients(
        torch.ones_like(sigma_N), -sigma_N, c_in, _time(sigma_N, sigma_data, levels_T)
    )


def _time(sigma_N: Tensor, sigma_data: float, levels_T: Tensor) -> Tensor:
    return ((place_of(sigma_N / sigma_data, levels_T) + 1.0) / NUM_LEVELS).to(sigma_N.dtype)


def _drawn_level(
    levels_T: Tensor, sigma_data: float, num: int, generator: torch.Generator
) -> Tensor:
    device = generator.device
    place_N = torch.randint(len(levels_T), (num,), generator=generator, device=device)
    return (levels_T.to(device)[place_N] * sigma_data).float()


def _normal(num: int, generator: torch.Generator) -> Tensor:
    return torch.randn(num, generator=generator, device=generator.device, dtype=torch.float64)


def _uniform(num: int, generator: torch.Generator) -> Tensor:
    return torch.rand(num, generator=generator, device=generator.device, dtype=torch.float64)


def wide(coefficient: Tensor) -> Tensor:
    """A coefficient of rows (N,), or of rows and channels (N, C), beside (N, C, H, W)."""
    return coefficient.reshape(*coefficient.shape, *[1] * (4 - coefficient.ndim))
