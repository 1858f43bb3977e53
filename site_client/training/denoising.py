"""What a denoiser is held to: latents of warped frames, drawn from their label maps."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from shared.diffusion.base import Precondition
from shared.diffusion.loss import denoising_loss_N
from shared.files import write_bytes
from shared.models.autoencoder import sector_cells
from shared.seeding import derive_seed
from site_client.training.synthesis_batches import DrawnBatch, DrawnMaterial

Encode = Callable[[Tensor, Tensor], Tensor]
"""Images and sectors (N, 1, S, S) -> normalised latents (N, C, H, W)."""
Draw = Callable[[nn.Module, DrawnBatch], NDArray[np.uint8]]
"""Network and maps -> images (N, S, S)."""
_NUM_JUDGED = 32  # validation frames, spread evenly over all
_NUM_DRAWN = 6  # of them on a picture
_NUM_LEVELS = 4  # noise levels of each judged frame


@dataclass(frozen=True, slots=True)
class DenoisingPlan:
    """How a network is asked.

    Args:
        num_structures, num_views: of maps and views.
        label_dropout: chance that the map is hidden, and that the view is; each by itself, since
            guidance hides the map only.
        is_half: whether the network computes in bfloat16.
        inside_only: whether cells outside the sector count nothing.
    """

    num_structures: int
    num_views: int
    label_dropout: float
    is_half: bool
    inside_only: bool
    seed: int


class Denoising:
    """The task of a denoiser: its loss in training, on the validation frames, and its pictures."""

    def __init__(
        self,
        train: DrawnMaterial,
        val: DrawnMaterial,
        plan: DenoisingPlan,
        *,
        precondition: Precondition,
        encode: Encode,
        picture: Callable[[nn.Module, DrawnBatch, int], None],
    ) -> None:
        """Keep the frames, and draw the noise by which every validation judges."""
        self._train, self._plan = train, plan
        self._precondition, self._encode, self._picture = precondition, encode, picture
        places = np.unique(np.linspace(0, len(val) - 1, _NUM_JUDGED).round().astype(np.int64))
        self._judged = [val.plain(part) for part in np.array_split(places, -(-len(places) // 8))]
        shown = np.unique(np.linspace(0, len(val) - 1, _NUM_DRAWN).round().astype(np.int64))
        self._shown = val.plain(shown)

    def loss(self, network: nn.Module, step: int) -> Tensor:
        """Weighted squared error of a warped batch, maps and views of some of its rows hidden."""
        batch = self._train.batch(step)
        generator = torch.Generator().manual_seed(derive_seed(self._plan.seed, "denoising", step))
        kept_2N = torch.rand(2, len(batch.view_N), generator=generator) >= self._plan.label_dropout
        return self._losses(network, batch, kept_2N, generator).mean()

    @torch.no_grad()
    def validate(self, network: nn.Module) -> float:
        """Mean loss of validation frames at fixed noise levels with fixed noise."""
        generator = torch.Generator().manual_seed(derive_seed(self._plan.seed, "validation"))
        losses = [
            self._losses(network, batch, torch.ones(2, len(batch.view_N)) > 0, generator)
            for batch in self._judged
            for _ in range(_NUM_LEVELS)
        ]
        return float(torch.cat(losses).double().mean())

    @torch.no_grad()
    def draw(self, network: nn.Module, step: int) -> None:
        """Leave a picture of some validation maps and what is drawn from them."""
        self._picture(network, self._shown, step)

    def _losses(
        self, network: nn.Module, batch: DrawnBatch, kept_2N: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Loss of each row, where so many maps and views are told."""
        with torch.no_grad():
            clean_NCHW = self._encode(batch.images_N1SS, batch.sector_N1SS)
        device = clean_NCHW.device
        sigma_N = self._precondition.draw_sigma(len(clean_NCHW), generator).to(device)
        noise_NCHW = torch.randn(clean_NCHW.shape, generator=generator).to(device)
        map_kept_N, view_kept_N = kept_2N.to(device)
        maps_NLSS = batch.maps(self._plan.num_structures) * map_kept_N[:, None, None, None]
        view_N = torch.where(view_kept_N, batch.view_N, self._plan.num_views)

        def ask(x_NCHW: Tensor, noise_N: Tensor) -> Tensor:
            with self._arithmetic(device):
                answer: Tensor = network(x_NCHW, noise_N, maps_NLSS, view_N)
            return answer[:, : x_NCHW.shape[1]].float()  # what it says of its variance is left out

        counted_N1HW = None
        if self._plan.inside_only:
            factor = batch.sector_N1SS.shape[-1] // clean_NCHW.shape[-1]
            counted_N1HW = sector_cells(batch.sector_N1SS, factor)
        return denoising_loss_N(
            ask, self._precondition, clean_NCHW, sigma_N, noise_NCHW, counted_N1HW=counted_N1HW
        )

    def _arithmetic(self, device: torch.device) -> AbstractContextManager[None]:
        if self._plan.is_half:
            return torch.autocast(device.type, dtype=torch.bfloat16)
        return nullcontext()


def save_sheet(path: Path, batch: DrawnBatch, drawn_NSS: NDArray[np.uint8]) -> None:
    """Write label maps above the images drawn from them as one PNG, atomically."""
    labels_NSS = batch.labels_NSS.cpu().numpy()
    shade = 255 // max(int(labels_NSS.max()), 1)
    rows = [(labels_NSS * shade).astype(np.uint8), drawn_NSS]
    sheet_HW = np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)
    png = BytesIO()
    Image.fromarray(sheet_HW).save(png, "PNG")
    write_bytes(path, png.getvalue())
