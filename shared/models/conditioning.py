"""What a denoiser is told beside the label map, as one vector: noise level and view."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import silu


def geometric(num: int) -> Tensor:
    """Angular frequencies (num,) that tell levels of any preconditioning apart.

    From 0.001 for timesteps up to 1,000, to 32 for levels between 0 and 1.
    """
    return torch.logspace(-3, math.log10(32.0), num)


def positional(num: int) -> Tensor:
    """Angular frequencies (num,) from 1 to 1/10,000: Vaswani et al. 2017 (arXiv 1706.03762)."""
    return torch.logspace(0, -4 * (num - 1) / num, num)


def fourier(num: int) -> Tensor:
    """Angular frequencies (num,) drawn once: Tancik et al. 2020 (arXiv 2006.10739)."""
    return 2 * math.pi * 16 * torch.randn(num)  # 16 as in Song et al. 2021 (arXiv 2011.13456)


FREQUENCIES: dict[str, Callable[[int], Tensor]] = {
    "geometric": geometric,
    "positional": positional,
    "fourier": fourier,
}
"""name -> maker of so many angular frequencies."""


class Conditioning(nn.Module):
    """Noise level and view -> vector (N, D): sinusoids and a view's vector, mixed by two layers.

    Args:
        frequencies_F: angular frequencies of the sinusoids; kept with the weights.
        channels: D.
        num_views: views; one more place stands for a view that is not told.
    """

    frequencies_F: Tensor

    def __init__(self, frequencies_F: Tensor, channels: int, num_views: int) -> None:
        """Build the layers."""
        super().__init__()
        self.register_buffer("frequencies_F", frequencies_F)
        self.widen = nn.Linear(2 * len(frequencies_F), channels)
        self.mix = nn.Linear(channels, channels)
        self.view = nn.Embedding(num_views + 1, channels)

    def forward(self, noise_N: Tensor, view_N: Tensor) -> Tensor:
        """The vectors, rectified, as the blocks take them."""
        phases_NF = noise_N.to(self.frequencies_F.dtype)[:, None] * self.frequencies_F
        waves_NF = torch.cat([phases_NF.cos(), phases_NF.sin()], dim=1)
        told_ND = self.mix(silu(self.widen(waves_NF))) + self.view(view_N)
        return silu(told_ND)
