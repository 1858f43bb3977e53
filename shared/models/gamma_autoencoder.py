"""The autoencoder whose latent is distributed like the grey values of an ultrasound image.

Stojanovski et al. 2024 (arXiv 2409.19371): one channel, Gamma posterior in every cell, held near
one Gamma prior. The latent is the posterior mean, which depends on the image; the code that was
released with the paper feeds a draw from the prior instead, which does not.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from shared.models.autoencoder import masked_image, sector_cells
from shared.models.autoencoder_layers import decoder_layers, encoder_layers

PRIOR_SHAPE, PRIOR_RATE = 3.75, 10.8
"""Of the prior: mean 0.347, deviation 0.179, like the non-zero grey values of CAMUS in [0, 1]."""
_SHARPNESS = 10.0  # of the softplus
_LEAST = 1e-7  # of shapes, rates and latents
_IMAGE_WEIGHT, _KL_WEIGHT, _LIKENESS_WEIGHT = 10.0, 1e-3, 1e-2  # as released with the paper


class GammaAutoencoder(nn.Module):
    """Image in [0, 1] <-> positive latent of one channel that looks like a small image.

    Args:
        widths: channels of the levels, finest first; 64, 128 halve the side once (3.2 million
            weights), 64, 128, 192 twice (8.4 million).
        blocks: residual blocks of a level.
        attention: whether the coarsest level attends to itself, as in the paper; its cost grows
            with the fourth power of the latent's side.
    """

    latent_channels: int = 1
    fixed_normalisation: ClassVar[tuple[float, float] | None] = (0.5, 0.5)

    def __init__(
        self, widths: tuple[int, ...] = (64, 128, 192), blocks: int = 2, attention: bool = True
    ) -> None:
        """Build the layers; weights are drawn from torch's generator.

        Raises:
            EchoFedError: CONFIG_INVALID.
        """
        super().__init__()
        self.factor = 2 ** (len(widths) - 1)
        self.encoder = encoder_layers(widths, 1, blocks=blocks, attention=attention, patch=1)
        self.decoder = decoder_layers(widths, 1, blocks=blocks, attention=attention, patch=1)
        self.shape_head, self.rate_head = _head(), _head()

    def posterior(self, image_N1HW: Tensor, sector_N1HW: Tensor) -> tuple[Tensor, Tensor]:
        """Shape and rate (N, 1, h, w) of the latent's law in each cell."""
        features = self.encoder(masked_image(image_N1HW, sector_N1HW, self.factor))
        shape, rate = (
            nn.functional.softplus(head(features), beta=_SHARPNESS)
            for head in (self.shape_head, self.rate_head)
        )
        return (PRIOR_SHAPE * shape).clamp(min=_LEAST), (PRIOR_RATE * rate).clamp(min=_LEAST)

    def encode(self, image_N1HW: Tensor, sector_N1HW: Tensor) -> Tensor:
        """Posterior mean (N, 1, h, w), 0 outside the sector."""
        shape, rate = self.posterior(image_N1HW, sector_N1HW)
        return shape / rate * sector_cells(sector_N1HW, self.factor)

    def decode(self, latent_NCHW: Tensor, sector_N1HW: Tensor) -> Tensor:
        """Image (N, 1, H, W) in [0, 1], 0 outside the sector."""
        return self._reconstruct(latent_NCHW.clamp(min=_LEAST), sector_N1HW).clamp(0, 1)

    def loss_terms(
        self, image_N1HW: Tensor, sector_N1HW: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The weighted terms of the loss, by name; their sum is minimised.

        ``image``: squared error of the reconstruction of a draw, mean over the picture. ``kl``: how
        far the prior is from the posterior, mean over the sector times its share of the latent.
        ``likeness``: squared distance of the draw from the image averaged over each cell. The
        perceptual term of the paper is left out, for it needs the weights of another network.

        Args:
            image_N1HW: in [0, 1].
            sector_N1HW: 1 inside, 0 outside.
            generator: of the image's device; draws the latent.
        """
        shape, rate = self.posterior(image_N1HW, sector_N1HW)
        cells = sector_cells(sector_N1HW, self.factor)
        draw = torch._standard_gamma(shape, generator=generator) / rate
        latent = draw.clamp(min=_LEAST) * cells
        wanted = image_N1HW * sector_N1HW
        small = nn.functional.avg_pool2d(wanted, self.factor)
        prior_shape, prior_rate = (torch.full_like(shape, x) for x in (PRIOR_SHAPE, PRIOR_RATE))
        divergence = gamma_divergence(prior_shape, prior_rate, shape, rate)
        found = self._reconstruct(latent, sector_N1HW)
        return {
            "image": _IMAGE_WEIGHT * (found - wanted).square().mean(),
            "kl": _KL_WEIGHT * (divergence * cells).mean(),
            "likeness": _LIKENESS_WEIGHT * (latent - small).square().mean(),
        }

    def _reconstruct(self, latent_NCHW: Tensor, sector_N1HW: Tensor) -> Tensor:
        image: Tensor = self.decoder(latent_NCHW * sector_cells(sector_N1HW, self.factor))
        return image * sector_N1HW


def gamma_divergence(shape_p: Tensor, rate_p: Tensor, shape_q: Tensor, rate_q: Tensor) -> Tensor:
    """Kullback-Leibler divergence of Gamma law q from Gamma law p, KL(p || q), in nats.

    (a_p - a_q) psi(a_p) - lnG(a_p) + lnG(a_q) + a_q (ln b_p - ln b_q) + a_p (b_q - b_p) / b_p for
    shapes a and rates b.
    """
    return (
        (shape_p - shape_q) * torch.digamma(shape_p)
        - torch.lgamma(shape_p)
        + torch.lgamma(shape_q)
        + shape_q * (rate_p.log() - rate_q.log())
        + shape_p * (rate_q - rate_p) / rate_p
    )


def _head() -> nn.Conv2d:
    """A 1x1 convolution whose answer, first near 1, says how often the prior's value it is."""
    head = nn.Conv2d(1, 1, 1)
    assert head.bias is not None
    nn.init.ones_(head.bias)
    return head
