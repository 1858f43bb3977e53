"""EDM's wrapping where each channel of the latent has a deviation of its own.

The bands of a wavelet differ in deviation by a factor of fifty. Brought to one deviation, all would
drown in noise together, and the coarse ones, which hold the anatomy, would be one voice of many; as
they are, the fine ones are noise to the network at nearly every level. Between the two, each
channel is wrapped by its own deviation.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from shared.diffusion import PRECONDITIONS
from shared.diffusion.base import Coefficients, Precondition
from shared.diffusion.precondition import Edm
from shared.errors import Code, EchoFedError


@dataclass(frozen=True, slots=True)
class EdmBands:
    """EDM's wrapping channel by channel; noise stays white over all of them.

    Args:
        deviations: of the clean data, of each channel.
    """

    deviations: tuple[float, ...]

    @property
    def sigma_data(self) -> float:
        """Root of the mean square over channels."""
        return math.sqrt(sum(one**2 for one in self.deviations) / len(self.deviations))

    def coefficients(self, sigma_N: Tensor) -> Coefficients:
        """As of ``Edm``, (N, C) but for c_noise."""
        data_1C = self._row_of_deviations(sigma_N)
        sigma_N1 = sigma_N[:, None]
        total_NC = (sigma_N1**2 + data_1C**2).sqrt()
        return Coefficients(
            (data_1C / total_NC) ** 2,
            sigma_N1 * data_1C / total_NC,
            1.0 / total_NC,
            sigma_N.log() / 4.0,
        )

    def draw_sigma(self, num: int, generator: torch.Generator) -> Tensor:
        """EDM's law for the widest channel: what it holds is settled at levels about its own."""
        return Edm(max(self.deviations)).draw_sigma(num, generator)

    def weight(self, sigma_N: Tensor) -> Tensor:
        """1 / c_out^2 times the channel's share of all deviations (N, C); shares have mean 1."""
        data_1C = self._row_of_deviations(sigma_N)
        return self.coefficients(sigma_N).c_out ** -2 * data_1C / data_1C.mean()

    def _row_of_deviations(self, sigma_N: Tensor) -> Tensor:
        return torch.tensor(self.deviations, dtype=sigma_N.dtype, device=sigma_N.device)[None]


def wrapping(name: str, deviations: tuple[float, ...]) -> Precondition:
    """The line of ``PRECONDITIONS`` for a latent whose channels have these deviations.

    Raises:
        EchoFedError: NAME_UNKNOWN; CONFIG_INVALID where channels differ and the wrapping knows one
            deviation only.
    """
    if len(set(deviations)) == 1:
        return PRECONDITIONS[name](deviations[0])
    if name != "edm":
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"channels of different deviations cannot be wrapped by {name!r}",
            "take edm, or evenness 1",
        )
    return EdmBands(deviations)
