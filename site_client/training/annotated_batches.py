"""Batches of annotated frames: warped, mixed, z-scored; each epoch from a seed of its own."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.seeding import numpy_generator
from site_client.annotated import AnnotatedFrames
from site_client.augment.backmix import mix_background
from site_client.augment.geometry import MaskedFrames
from site_client.augment.warp import Warp, WarpReach, draw_warp, shade, warp_maps, warp_points
from site_client.training.batches import UNMIXED, split_order
from site_client.training.outlines import Outlines

_WHITE = 255.0


@dataclass(frozen=True, slots=True, eq=False)
class AnnotatedBatch:
    """What one step learns from; H and W are those of the largest picture.

    Args:
        images_N1HW: z-scored.
        labels_NHW: places in the structures.
        annotated_NS: which structures were annotated.
        mm_per_pixel_N2: spacing of (rows, columns), NaN where unknown.
        points_xy_mm_NK2: landmarks; K is 0 where masks are learnt.
        distance_mm_NHW: signed distance to the contour; 0 where masks are learnt.
    """

    images_N1HW: Tensor
    labels_NHW: Tensor
    annotated_NS: Tensor
    mm_per_pixel_N2: Tensor
    points_xy_mm_NK2: Tensor
    distance_mm_NHW: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class AnnotatedMaterial:
    """The training frames and what may be done to them.

    Args:
        outlines: contours of the frames, None where masks are learnt.
        is_mixed_N: frames whose background is swapped, and who give theirs.
    """

    frames: AnnotatedFrames
    outlines: Outlines | None
    is_mixed_N: NDArray[np.bool_]
    reach: WarpReach
    batch_size: int
    seed: int

    @property
    def num_batches(self) -> int:
        """Steps of an epoch."""
        return len(split_order(np.arange(len(self.frames)), self.batch_size))

    def batches(self, epoch: int) -> Iterator[AnnotatedBatch]:
        """All frames once, shuffled and changed by the seed and the epoch alone."""
        generator = numpy_generator(self.seed, "annotated batches", epoch)
        order = generator.permutation(len(self.frames))
        mixed = np.flatnonzero(self.is_mixed_N)
        for place_N in split_order(order, self.batch_size):
            donor_N = np.full(len(place_N), UNMIXED)
            if len(mixed):
                drawn_N = generator.choice(mixed, len(place_N))
                donor_N = np.where(self.is_mixed_N[place_N], drawn_N, UNMIXED)
            warp = draw_warp(self.reach, len(place_N), generator)
            yield _batch(self.frames, self.outlines, place_N, donor_N, warp)


def plain_annotated(
    frames: AnnotatedFrames, outlines: Outlines | None, batch_size: int
) -> Iterator[AnnotatedBatch]:
    """All frames once, z-scored and nothing else, those of one size together.

    So nothing lies beyond a picture's edge, as in prediction; there a network may say anything.
    """
    still = WarpReach(0.0, 0.0, 0.0, 0.0, 0.0)
    for size_2 in np.unique(frames.size_N2, axis=0):
        alike = np.flatnonzero((frames.size_N2 == size_2).all(axis=1))
        for begin in range(0, len(alike), batch_size):
            place_N = alike[begin : begin + batch_size]
            warp = draw_warp(still, len(place_N), np.random.default_rng(0))
            yield _batch(frames, outlines, place_N, np.full(len(place_N), UNMIXED), warp)


def _batch(
    frames: AnnotatedFrames,
    outlines: Outlines | None,
    place_N: NDArray[np.integer],
    donor_N: NDArray[np.integer],
    warp: Warp,
) -> AnnotatedBatch:
    rows, columns = frames.size_N2[place_N].max(axis=0).tolist()
    pixels_N1SS = _mixed(frames, place_N, donor_N, warp)
    labels_NSS = torch.from_numpy(frames.labels_NSS[place_N])
    labels_NSS = warp_maps(labels_NSS, warp, is_nearest=True, repeats_edge=False)
    spacing_N2 = torch.from_numpy(frames.mm_per_pixel_N2[place_N] / warp.zoom_N[:, None])
    num = len(place_N)
    points_NK2, distance_NSS = torch.zeros(num, 0, 2), torch.zeros_like(pixels_N1SS[:, 0])
    if outlines is not None:
        distance_NSS = torch.from_numpy(outlines.distance_mm_NSS[place_N])
        distance_NSS = warp_maps(distance_NSS, warp, is_nearest=False, repeats_edge=True)
        landmarks = torch.from_numpy(outlines.points_xy_px_NK2[place_N])
        points_NK2 = warp_points(landmarks, warp, frames.side) * spacing_N2.flip(1)[:, None]
    return AnnotatedBatch(
        _z_scored(pixels_N1SS, frames.size_N2[place_N])[..., :rows, :columns],
        labels_NSS[:, :rows, :columns].long(),
        torch.from_numpy(frames.annotated_NS[place_N]),
        spacing_N2.float(),
        points_NK2.float(),
        distance_NSS[:, :rows, :columns],
    )


def _mixed(
    frames: AnnotatedFrames, place_N: NDArray[np.integer], donor_N: NDArray[np.integer], warp: Warp
) -> Tensor:
    """Grey values of the frames, changed, with their donors' backgrounds (N, 1, S, S)."""
    pixels_NSS = shade(torch.from_numpy(frames.pixels_NSS[place_N]).float(), warp)
    pixels_NSS = warp_maps(pixels_NSS, warp, is_nearest=False, repeats_edge=False)
    is_mixed_N = donor_N != UNMIXED
    if is_mixed_N.any():
        chosen, givers_N = torch.from_numpy(np.flatnonzero(is_mixed_N)), donor_N[is_mixed_N]
        sector_NSS = torch.from_numpy(frames.sector_NSS[place_N])
        sector_NSS = warp_maps(sector_NSS, warp, is_nearest=True, repeats_edge=False) > 0.5
        receiver = MaskedFrames(pixels_NSS[chosen, None], sector_NSS[chosen, None])
        donor = MaskedFrames(
            torch.from_numpy(frames.pixels_NSS[givers_N])[:, None].float(),
            torch.from_numpy(frames.sector_NSS[givers_N])[:, None],
        )
        pixels_NSS[chosen] = mix_background(receiver, donor)[:, 0]
    return pixels_NSS[:, None]


def _z_scored(pixels_N1SS: Tensor, size_N2: NDArray[np.int32]) -> Tensor:
    """Mean 0 and deviation 1 over the picture that lies in each square."""
    scored = pixels_N1SS / _WHITE
    for image, (rows, columns) in zip(scored, size_N2.tolist(), strict=True):
        seen = image[:, :rows, :columns]
        image.sub_(seen.mean()).div_(seen.std(correction=0).clamp(min=1e-4))
    return scored
