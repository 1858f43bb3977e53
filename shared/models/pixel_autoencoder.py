"""No autoencoder: the latent is the image, for denoisers that work on pixels."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from shared.models.autoencoder import masked_image


class PixelAutoencoder(nn.Module):
    """Image in [0, 1] <-> itself; it has no weights and nothing to learn."""

    latent_channels: int = 1
    factor: int = 1
    fixed_normalisation: ClassVar[tuple[float, float] | None] = (0.5, 0.5)

    def encode(self, image_N1HW: Tensor, sector_N1HW: Tensor) -> Tensor:
        """The image (N, 1, H, W), 0 outside the sector."""
        return masked_image(image_N1HW, sector_N1HW, self.factor)

    def decode(self, latent_NCHW: Tensor, sector_N1HW: Tensor) -> Tensor:
        """The latent (N, 1, H, W) in [0, 1], 0 outside the sector."""
        return latent_NCHW.clamp(0, 1) * sector_N1HW

    def loss_terms(
        self, image_N1HW: Tensor, sector_N1HW: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Nothing: the image is kept as it is."""
        return {}
