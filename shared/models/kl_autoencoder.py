"""The autoencoder of latent diffusion, small enough for a CPU and without an adversary.

Rombach et al. 2022 (arXiv 2112.10752): Gaussian posterior in every cell, hardly held to a standard
normal prior. What keeps speckle from being blurred away is not a discriminator but a term on edges
and on the local strength of texture, at several scales.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from shared.models.autoencoder import inside_mean, masked_image, sector_cells
from shared.models.autoencoder_layers import decoder_layers, encoder_layers
from shared.models.texture_loss import edge_loss, texture_loss

_LOG_VARIANCE = (-30.0, 20.0)  # within which a posterior stays, as in the released code


class KLAutoencoder(nn.Module):
    """Image in [0, 1] <-> latent of a few channels.

    With its own settings 256 x 256 pixels become 32 x 32 cells of 4 channels.

    Args:
        widths: channels of the encoder's levels, finest first; each after the first halves.
        decoder_widths: of the decoder; empty for the encoder's.
        blocks: residual blocks of a level.
        attention: whether the coarsest level attends to itself.
        patch: pixels a side that the finest level reads and writes as one.
        latent_channels: values of a cell.
        kl_weight: of the divergence from the prior.
        texture_weight: of edges and of texture; 0 leaves both out.
    """

    fixed_normalisation: ClassVar[tuple[float, float] | None] = None

    def __init__(  # noqa: PLR0913 - the options of a network are its arguments
        self,
        widths: tuple[int, ...] = (32, 64, 128),
        decoder_widths: tuple[int, ...] = (),
        blocks: int = 2,
        attention: bool = False,
        patch: int = 2,
        latent_channels: int = 4,
        kl_weight: float = 1e-6,
        texture_weight: float = 0.5,
    ) -> None:
        """Build the layers; weights are drawn from torch's generator.

        Raises:
            EchoFedError: CONFIG_INVALID.
        """
        super().__init__()
        self.latent_channels, self.factor = latent_channels, patch * 2 ** (len(widths) - 1)
        self._kl_weight, self._texture_weight = kl_weight, texture_weight
        self.encoder = encoder_layers(
            widths, 2 * latent_channels, blocks=blocks, attention=attention, patch=patch
        )
        decoder_widths = decoder_widths or widths
        pixels, remainder = divmod(self.factor, 2 ** (len(decoder_widths) - 1))
        self.decoder = decoder_layers(
            decoder_widths,
            latent_channels,
            blocks=blocks,
            attention=attention,
            patch=0 if remainder else pixels,
        )

    def posterior(self, image_N1HW: Tensor, sector_N1HW: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance (N, C, h, w) of the latent's law in each cell."""
        both: Tensor = self.encoder(masked_image(image_N1HW, sector_N1HW, self.factor))
        mean_NCHW, log_variance_NCHW = both.chunk(2, dim=1)
        return mean_NCHW, log_variance_NCHW.clamp(*_LOG_VARIANCE)

    def encode(self, image_N1HW: Tensor, sector_N1HW: Tensor) -> Tensor:
        """Posterior mean (N, C, h, w), 0 outside the sector."""
        mean_NCHW, _ = self.posterior(image_N1HW, sector_N1HW)
        return mean_NCHW * sector_cells(sector_N1HW, self.factor)

    def decode(self, latent_NCHW: Tensor, sector_N1HW: Tensor) -> Tensor:
        """Image (N, 1, H, W) in [0, 1], 0 outside the sector."""
        return self._reconstruct(latent_NCHW, sector_N1HW).clamp(0, 1)

    def loss_terms(
        self, image_N1HW: Tensor, sector_N1HW: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The weighted terms of the loss, by name; their sum is minimised.

        ``image``: absolute and squared error of the reconstruction of a draw, mean over the sector.
        ``kl``: divergence of the posterior from the standard normal, summed over the latent, by
        pixel of the sector. ``edges``, ``texture``: see the functions of those names.

        Args:
            image_N1HW: in [0, 1].
            sector_N1HW: 1 inside, 0 outside.
            generator: of the image's device; draws the latent.
        """
        mean, log_variance = self.posterior(image_N1HW, sector_N1HW)
        cells = sector_cells(sector_N1HW, self.factor)
        noise = torch.empty_like(mean).normal_(generator=generator)
        found = self._reconstruct(mean + (log_variance / 2).exp() * noise, sector_N1HW)
        wanted = image_N1HW * sector_N1HW
        error = found - wanted
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance) * cells
        terms = {
            "image": inside_mean(error.abs() + error.square(), sector_N1HW),
            "kl": self._kl_weight * divergence.sum() / sector_N1HW.sum().clamp(min=1),
        }
        if self._texture_weight:
            terms["edges"] = self._texture_weight * edge_loss(found, wanted, sector_N1HW)
            terms["texture"] = self._texture_weight * texture_loss(found, wanted, sector_N1HW)
        return terms

    def _reconstruct(self, latent_NCHW: Tensor, sector_N1HW: Tensor) -> Tensor:
        image: Tensor = self.decoder(latent_NCHW * sector_cells(sector_N1HW, self.factor))
        return image * sector_N1HW
