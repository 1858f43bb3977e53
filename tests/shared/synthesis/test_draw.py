"""Beyond the sector the denoiser meets, while it draws, what it met while it learnt."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shared.diffusion import SOLVERS
from shared.diffusion.bands import wrapping
from shared.models.autoencoder import as_autoencoder
from shared.models.haar_autoencoder import HaarAutoencoder
from shared.synthesis.draw import Parts, decode_latents, draw_latents, sector_of
from shared.synthesis.maps import one_hot_maps
from shared.testing.synthesizers import SAMPLER, untrained_synthesizer

SIZE, FACTOR, CHANNELS = 32, 4, 16


class Loud(nn.Module):
    """Answers loudly everywhere, and remembers what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(30.0))
        self.shown: list[Tensor] = []

    def forward(self, x_NCHW: Tensor, noise_N: Tensor, maps: Tensor, view_N: Tensor) -> Tensor:
        self.shown.append(x_NCHW)
        return self.weight * torch.ones_like(x_NCHW)


@pytest.mark.parametrize("solver", SOLVERS.names())
def test_cells_beyond_the_sector_follow_the_law_of_black(solver: str) -> None:
    shift = tuple(0.1 * channel for channel in range(CHANNELS))
    card, _ = untrained_synthesizer(
        0, autoencoder="haar", sigma_data=(1.0,) * CHANNELS, latent_shift=shift,
        latent_scale=(2.0,) * CHANNELS,
    )  # fmt: skip
    loud = Loud()
    autoencoder = as_autoencoder(HaarAutoencoder(2))
    parts = Parts(loud, autoencoder, wrapping("edm", card.sigma_data))
    labels = np.ones((1, SIZE, SIZE), np.uint8)
    labels[:, :, : SIZE // 2] = 0
    maps = one_hot_maps(labels, len(card.structures))
    latent = draw_latents(
        card, parts, maps, torch.zeros(1, dtype=torch.int64),
        sampler=replace(SAMPLER, solver=solver), seeds_N=[3],
    )  # fmt: skip
    half = SIZE // FACTOR // 2
    black = autoencoder.encode(torch.rand(1, 1, SIZE, SIZE), sector_of(maps))[..., :half]
    wanted = (black - torch.tensor(shift)[:, None, None]) / 2.0
    torch.testing.assert_close(latent[..., :half], wanted)
    assert loud.shown[-1][..., :half].abs().max() < 4
    assert latent[..., half:].abs().min() > 0.1
    image = decode_latents(card, parts, latent, maps)
    assert not image[..., : SIZE // 2].any()
