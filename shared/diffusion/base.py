"""What diffusion is made of, in one frame: x = x0 + sigma * noise.

The frame is that of Karras et al. 2022 (arXiv 2206.00364) with s(t) = 1 and sigma(t) = t; sigma is
in units of the normalised latent. Networks of another frame are wrapped into it.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

Denoise = Callable[[Tensor, Tensor], Tensor]
"""(x_NCHW, sigma as a float64 scalar) -> estimate of x0, of the dtype of x."""

Network = Callable[[Tensor, Tensor], Tensor]
"""(c_in x, c_noise_N) -> what the network answers, shaped like x."""

Noise = Callable[[], Tensor]
"""Standard normal noise, shaped like x; each call draws anew."""


class Coefficients(NamedTuple):
    """D(x; sigma) = c_skip x + c_out network(c_in x, c_noise), each (N,).

    The first three are (N, C) where channels differ.
    """

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor
    c_noise: Tensor


class Precondition(Protocol):
    """How a network becomes a denoiser, and at which noise levels it learns.

    ``c_noise`` is of order one for all of them, so that one embedding of it serves all.
    """

    @property
    def sigma_data(self) -> float:
        """Deviation of the clean data."""
        ...

    def coefficients(self, sigma_N: Tensor) -> Coefficients:
        """The wrapping at some noise levels, in their dtype."""
        ...

    def draw_sigma(self, num: int, generator: torch.Generator) -> Tensor:
        """Noise levels (num,) to learn at, float32, on the generator's device."""
        ...

    def weight(self, sigma_N: Tensor) -> Tensor:
        """Weight of the squared error of D: (N,), or (N, C) where channels differ."""
        ...


class Schedule(Protocol):
    """Noise levels to sample at."""

    def __call__(self, num_steps: int, sigma_min: float, sigma_max: float) -> Tensor:
        """Levels (num_steps + 1,) in float64: from sigma_max down to sigma_min, then 0."""
        ...


class Solver(Protocol):
    """Leads noise down the levels to data."""

    def __call__(
        self, denoise: Denoise, x_NCHW: Tensor, sigmas_S: Tensor, noise: Noise, /
    ) -> Tensor:
        """Solve from the first level to the last one.

        Coefficients are float64, x keeps its dtype.

        Args:
            denoise: the denoiser.
            x_NCHW: data plus noise of the first level.
            sigmas_S: falling levels, float64; only the last one may be 0.
            noise: asked by stochastic solvers only.

        Returns:
            x at the last level.
        """
        ...
