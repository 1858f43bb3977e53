"""What a denoiser is told beside the label map, as one vector: noise level and view."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

LOWEST, HIGHEST = 1e-3, 32.0
"""Angular frequencies of ``geometric``: they tell levels apart between 0 and 1, and up to 1,000."""


def geometric(num: int) -> Tensor:
    """Angular frequencies (num,) for any preconditioning's noise, from slow to fast."""
    return torch.logspace(math.log10(LOWEST), math.log10(HIGHEST), num)


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
