"""A latent without training: the bands of the Haar wavelet, exact both ways and nearly free.

Haar 1910 in two dimensions, orthonormal: each level makes of four neighbouring pixels their sum and
three differences, so white noise of the image is white noise of the bands. A denoiser then works on
few cells of many channels and needs no decoder; speckle, which a small trained decoder blurs, is
kept. Wavelet bands as the space of diffusion: Guth et al. 2022 (arXiv 2208.05003), Phung et al.
2023 (arXiv 2211.16152).
"""

import torch
from torch import Tensor, nn

from shared.errors import Code, EchoFedError
from shared.models.autoencoder import masked_image, sector_cells

_MOST_LEVELS = 6  # cells of 64 pixels; more have no place in an image


class HaarAutoencoder(nn.Module):
    """Image in [0, 1] <-> bands of 2 * image - 1; it has no weights and nothing to learn.

    Args:
        levels: of the wavelet; a cell stands for 2 ** levels pixels a side.
    """

    fixed_normalisation: tuple[float, float] | None = None

    def __init__(self, levels: int = 2) -> None:
        """Fix the sizes.

        Raises:
            EchoFedError: CONFIG_INVALID for a number of levels that cannot be.
        """
        super().__init__()
        if not 1 <= levels <= _MOST_LEVELS:
            raise EchoFedError(
                Code.CONFIG_INVALID,
                f"a wavelet of {levels} levels cannot be",
                f"take 1 to {_MOST_LEVELS}",
            )
        self.levels = levels
        self.factor = 2**levels
        self.latent_channels = 4**levels

    def encode(self, image_N1HW: Tensor, sector_N1HW: Tensor) -> Tensor:
        """Bands (N, 4 ** levels, H / factor, W / factor), the mean's first; 0 outside."""
        masked_N1HW = masked_image(image_N1HW, sector_N1HW, self.factor)
        bands_NCHW = (2 * masked_N1HW - 1) * sector_N1HW
        for _ in range(self.levels):
            bands_NCHW = split_bands(bands_NCHW)
        return bands_NCHW

    def decode(self, latent_NCHW: Tensor, sector_N1HW: Tensor) -> Tensor:
        """The image (N, 1, H, W) in [0, 1], 0 outside the sector."""
        latent_NCHW = latent_NCHW * sector_cells(sector_N1HW, self.factor)
        for _ in range(self.levels):
            latent_NCHW = join_bands(latent_NCHW)
        return ((latent_NCHW + 1) / 2).clamp(0, 1) * sector_N1HW

    def loss_terms(
        self, image_N1HW: Tensor, sector_N1HW: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Nothing: the image is kept as it is."""
        return {}


def split_bands(x_NCHW: Tensor) -> Tensor:
    """One level: (N, C, H, W) -> sums, then the three differences (N, 4C, H / 2, W / 2)."""
    a, b = x_NCHW[..., ::2, ::2], x_NCHW[..., ::2, 1::2]
    c, d = x_NCHW[..., 1::2, ::2], x_NCHW[..., 1::2, 1::2]
    bands = [a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d]
    return torch.cat(bands, dim=1) / 2


def join_bands(x_NCHW: Tensor) -> Tensor:
    """The inverse of ``split_bands``, which is its transpose."""
    s, h, v, d = x_NCHW.chunk(4, dim=1)
    num, channels, height, width = s.shape
    rows = torch.stack([(s + h + v + d) / 2, (s - h + v - d) / 2], dim=-1)
    below = torch.stack([(s + h - v - d) / 2, (s - h - v + d) / 2], dim=-1)
    joined = torch.stack([rows.flatten(-2), below.flatten(-2)], dim=-2)
    return joined.reshape(num, channels, 2 * height, 2 * width)
