"""What an autoencoder is held to: warped frames and their sectors; no label is looked at."""

import torch
from torch import Tensor, nn

from shared.models.autoencoder import as_autoencoder, inside_mean
from shared.seeding import derive_seed
from site_client.training.synthesis_batches import DrawnMaterial

_NUM_JUDGED = 32  # validation frames, the first ones


class Autoencoding:
    """The task of an autoencoder: its own loss in training, what it loses in validation."""

    def __init__(self, train: DrawnMaterial, val: DrawnMaterial, *, seed: int) -> None:
        """Keep the frames."""
        self._train, self._seed = train, seed
        self._judged = val.plain(range(min(len(val), _NUM_JUDGED)))

    def loss(self, network: nn.Module, step: int) -> Tensor:
        """Sum of the network's terms on a warped batch."""
        batch = self._train.batch(step)
        device = batch.images_N1SS.device
        generator = torch.Generator(device).manual_seed(derive_seed(self._seed, "latent", step))
        terms = as_autoencoder(network).loss_terms(batch.images_N1SS, batch.sector_N1SS, generator)
        return torch.stack(list(terms.values())).sum()

    @torch.no_grad()
    def validate(self, network: nn.Module) -> float:
        """Mean absolute error inside the sector of validation frames that went in and out."""
        doors, batch = as_autoencoder(network), self._judged
        latent_NCHW = doors.encode(batch.images_N1SS, batch.sector_N1SS)
        found_N1SS = doors.decode(latent_NCHW, batch.sector_N1SS)
        return float(inside_mean((found_N1SS - batch.images_N1SS).abs(), batch.sector_N1SS))

    def draw(self, network: nn.Module, step: int) -> None:
        """Nothing: what an autoencoder can do shows in the pictures of its denoiser."""
