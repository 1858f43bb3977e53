"""Half or double the size of features, with a filter of even length."""

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d

MEAN = (1, 1)
"""Mean of two by two cells, and each cell repeated."""
SMOOTH = (1, 3, 3, 1)
"""Filter of StyleGAN2 (Karras et al. 2020, arXiv 1912.04958) as in NCSN++; beyond the edge is 0."""


class Resample(nn.Module):
    """Every channel filtered, and taken or given at every second cell.

    Args:
        taps: of the filter along one axis, an even number.
        grows: whether the size doubles.
    """

    kernel_11KK: Tensor

    def __init__(self, taps: tuple[int, ...], *, grows: bool) -> None:
        """Lay out the filter; constants keep their value."""
        super().__init__()
        taps_K = torch.tensor(taps, dtype=torch.float32)
        taps_K = taps_K / taps_K.sum() * (2.0 if grows else 1.0)
        self.register_buffer("kernel_11KK", taps_K.outer(taps_K)[None, None], persistent=False)
        self.grows, self.margin = grows, (len(taps) - 1) // 2

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Features of half or double the height and width."""
        channels = x_NCHW.shape[1]
        kernel = self.kernel_11KK.to(x_NCHW.dtype).expand(channels, -1, -1, -1)
        change = conv_transpose2d if self.grows else conv2d
        changed: Tensor = change(x_NCHW, kernel, None, 2, self.margin, groups=channels)
        return changed
