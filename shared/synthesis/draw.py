"""From noise to a latent under label maps, and from a latent to the image.

Training shows its pictures, and a synthesizer draws, by these same steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from shared.diffusion import SCHEDULES, SOLVERS
from shared.diffusion.base import Denoise, Precondition
from shared.diffusion.precondition import denoised
from shared.diffusion.sample import guided, sample
from shared.echo.synthesizer import Sampler, SynthesizerCard
from shared.models import Autoencoder
from shared.models.autoencoder import sector_cells


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """The networks of a synthesizer with their weights.

    Args:
        denoiser: a line of ``DENOISERS``.
        autoencoder: a line of ``AUTOENCODERS``; a module.
        precondition: what makes the one a denoiser of the other's normalised latents.
    """

    denoiser: nn.Module
    autoencoder: Autoencoder
    precondition: Precondition


def draw_latents(
    card: SynthesizerCard,
    parts: Parts,
    maps_NLSS: Tensor,
    view_N: Tensor,
    *,
    sampler: Sampler,
    seeds_N: Sequence[int],
) -> Tensor:
    """Normalised latents (N, C, H, W) on the CPU, of the denoiser's dtype.

    Args:
        card: its shift and scale count, and the size of its images.
        parts: its networks.
        maps_NLSS: one-hot, outside first; on the denoiser's device.
        view_N: places in the card's views, on that device.
        sampler: how.
        seeds_N: of the noise of each row.
    """
    channels, factor = parts.autoencoder.latent_channels, parts.autoencoder.factor
    side, dtype = card.image_size // factor, next(parts.denoiser.parameters()).dtype
    denoise = guided(
        _under(parts, maps_NLSS, view_N),
        _under(parts, torch.zeros_like(maps_NLSS), view_N),
        sampler.guidance,
    )
    is_inside_N1HW = sector_cells(sector_of(maps_NLSS), factor).cpu() > 0
    shift_C11, scale_C11 = _normalisation(card, dtype)

    def kept_empty(x_NCHW: Tensor, sigma: Tensor) -> Tensor:
        """Beyond the sector a latent is known: it is 0, as it was whenever the network learnt."""
        return torch.where(is_inside_N1HW, denoise(x_NCHW, sigma), -shift_C11 / scale_C11)

    return sample(
        kept_empty,
        (channels, side, side),
        sigmas_S=SCHEDULES[sampler.schedule](sampler.steps, sampler.sigma_min, sampler.sigma_max),
        solver=SOLVERS[sampler.solver],
        seeds_N=seeds_N,
        dtype=dtype,
    )


def decode_latents(
    card: SynthesizerCard, parts: Parts, latent_NCHW: Tensor, maps_NLSS: Tensor
) -> Tensor:
    """Images (N, 1, S, S) in [0, 1], 0 outside the sector, of normalised latents."""
    shift_C11, scale_C11 = _normalisation(card, latent_NCHW.dtype)
    raw_NCHW = (latent_NCHW * scale_C11 + shift_C11).to(maps_NLSS.device)
    sector_N1SS = sector_of(maps_NLSS).to(raw_NCHW.dtype)
    return parts.autoencoder.decode(raw_NCHW, sector_N1SS) * sector_N1SS


def sector_of(maps_NLSS: Tensor) -> Tensor:
    """1 inside the sector of one-hot label maps, else 0 (N, 1, S, S)."""
    return 1.0 - maps_NLSS[:, :1]


def _under(parts: Parts, maps_NLSS: Tensor, view_N: Tensor) -> Denoise:
    """The preconditioned network under these maps; what it says of its variance is left out."""
    device, channels = maps_NLSS.device, parts.autoencoder.latent_channels

    def network(x_NCHW: Tensor, noise_N: Tensor) -> Tensor:
        answer: Tensor = parts.denoiser(x_NCHW, noise_N, maps_NLSS, view_N)
        return answer[:, :channels]

    def denoise(x_NCHW: Tensor, sigma: Tensor) -> Tensor:
        sigma_N = sigma.expand(len(x_NCHW)).to(device)
        return denoised(network, parts.precondition, x_NCHW.to(device), sigma_N).cpu()

    return denoise


def _normalisation(card: SynthesizerCard, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    shift_C11, scale_C11 = (
        torch.tensor(values, dtype=dtype)[:, None, None]
        for values in (card.latent_shift, card.latent_scale)
    )
    return shift_C11, scale_C11
