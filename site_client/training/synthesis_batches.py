"""What synthesizers learn from: images with their label maps, warped together; never mirrored."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.echo.mask import OUTSIDE
from shared.errors import Code, EchoFedError
from shared.seeding import numpy_generator
from site_client.annotated import AnnotatedFrames
from site_client.augment.warp import WarpReach, draw_warp, shade, warp_maps

_WHITE = 255.0


@dataclass(frozen=True, slots=True, eq=False)
class DrawnBatch:
    """Images with what they are to be drawn from.

    Args:
        images_N1SS: grey in [0, 1], 0 outside the sector.
        sector_N1SS: 1 inside the sector, else 0.
        labels_NSS: uint8, places in ``structures_of``.
        view_N: place in the views.
    """

    images_N1SS: Tensor
    sector_N1SS: Tensor
    labels_NSS: Tensor
    view_N: Tensor

    def maps(self, num_structures: int) -> Tensor:
        """The label maps one-hot (N, L, S, S), float32."""
        return one_hot(self.labels_NSS, num_structures)


def one_hot(labels_NSS: Tensor, num_structures: int) -> Tensor:
    """Label maps as one channel a structure (N, L, S, S), float32."""
    places_L11 = torch.arange(num_structures, device=labels_NSS.device)[:, None, None]
    return (labels_NSS[:, None] == places_L11).float()


def structures_of(frames: AnnotatedFrames) -> tuple[str, ...]:
    """What a label map tells apart: outside the sector, then what the masks name."""
    return (OUTSIDE, *frames.structures)


def labelled(
    frames: AnnotatedFrames, num_patients: int, *, seed: int
) -> tuple[AnnotatedFrames, int]:
    """Frames whose annotation names every structure, of so many patients; 0 for all.

    Returns:
        The frames, and the number of their patients.

    Raises:
        EchoFedError: FRAMES_MISSING where no frame is annotated with all structures,
            TOO_FEW_PATIENTS where more patients are wanted than have such frames.
    """
    whole_N = frames.annotated_NS.all(axis=1)
    patients = np.unique(frames.patient_N[whole_N])
    if not len(patients):
        raise EchoFedError(
            Code.FRAMES_MISSING,
            f"no frame is annotated with all of {', '.join(frames.structures)}",
            "leave structures out with synthesizer.structures, or train without the other dataset",
        )
    if num_patients > len(patients):
        raise EchoFedError(
            Code.TOO_FEW_PATIENTS,
            f"label maps of {num_patients} patients are wanted; {len(patients)} have some",
            "lower synthesizer.num_labelled, or set it to 0 for all",
        )
    if num_patients:
        patients = numpy_generator(seed, "labelled").permutation(patients)[:num_patients]
    chosen_N = whole_N & np.isin(frames.patient_N, patients)
    return frames.take(np.flatnonzero(chosen_N)), len(patients)


def fewest_patients(frames: AnnotatedFrames) -> int:
    """Patients in the dataset and view that has the fewest, of those that have any."""
    rows_N3 = np.stack([frames.dataset_N, frames.view_N, frames.patient_N], axis=1)
    told_K3 = np.unique(rows_N3, axis=0)  # each patient once a dataset and view
    return int(np.unique(told_K3[:, :2], axis=0, return_counts=True)[1].min())


class DrawnMaterial:
    """The frames, kept where the network learns, and the batch of every step."""

    def __init__(
        self, frames: AnnotatedFrames, reach: WarpReach, batch_size: int, *, seed: int, device: str
    ) -> None:
        """Keep the frames as bytes."""
        self._reach, self._batch_size, self._seed = reach, batch_size, seed
        self._pixels_NSS = torch.from_numpy(frames.pixels_NSS).to(device)
        self._labels_NSS = torch.from_numpy(frames.labels_NSS).to(device)
        self._sector_NSS = torch.from_numpy(frames.sector_NSS).to(device)
        self._view_N = torch.from_numpy(frames.view_N.astype(np.int64)).to(device)

    def __len__(self) -> int:
        """Number of frames."""
        return len(self._pixels_NSS)

    def batch(self, step: int) -> DrawnBatch:
        """What a step learns from; depends on the seed and the number of the step alone."""
        generator = numpy_generator(self._seed, "drawn batches", step)
        return self._of(self._places(step), self._reach, generator)

    def plain(self, places: Sequence[int] | NDArray[np.int64]) -> DrawnBatch:
        """Some frames as they are."""
        return self._of(
            np.asarray(places), WarpReach(0.0, 0.0, 0.0, 0.0, 0.0), np.random.default_rng(0)
        )

    def _places(self, step: int) -> NDArray[np.int64]:
        """The next frames in an endless row of shuffled passes."""
        num, first = len(self), step * self._batch_size
        order = {
            turn: numpy_generator(self._seed, "drawn order", turn).permutation(num)
            for turn in range(first // num, (first + self._batch_size - 1) // num + 1)
        }
        row = range(first, first + self._batch_size)
        return np.array([order[place // num][place % num] for place in row])

    def _of(
        self, place_N: NDArray[np.int64], reach: WarpReach, generator: np.random.Generator
    ) -> DrawnBatch:
        warp = draw_warp(reach, len(place_N), generator)
        index_N = torch.from_numpy(place_N).to(self._pixels_NSS.device)
        grey_NSS = shade(self._pixels_NSS[index_N].float(), warp)
        sector_NSS = self._sector_NSS[index_N]
        grey_NSS = warp_maps(grey_NSS * sector_NSS, warp, is_nearest=False, repeats_edge=False)
        seen_NSS = warp_maps(sector_NSS, warp, is_nearest=True, repeats_edge=False)
        labels_NSS = warp_maps(self._labels_NSS[index_N], warp, is_nearest=True, repeats_edge=False)
        return DrawnBatch(
            (grey_NSS / _WHITE * seen_NSS)[:, None],
            seen_NSS[:, None],
            ((labels_NSS + 1) * seen_NSS).to(torch.uint8),
            self._view_N[index_N],
        )
