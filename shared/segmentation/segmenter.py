"""A segmenter: everything between a clip and its masks or contours but the network itself.

The network is a function of arrays, so that it may run here or in a process of its own.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shared.echo.contour import Contour, require_spacing
from shared.echo.frame import Clip, MillimetresPerPixel
from shared.echo.segmenter import SegmenterCard, load_segmenter_files
from shared.errors import Code, EchoFedError
from shared.models import SEGMENTERS
from shared.models.backbone import load_weights, unpack_tensors
from shared.models.contour_net import ContourAnswer
from shared.segmentation.fit import fitted_size, fitted_spacing, resized, z_scored
from shared.segmentation.predict import (
    ONE_LOOK,
    PredictedMask,
    predict_contours,
    predict_masks,
)

log = logging.getLogger(__name__)
Floats = NDArray[np.float32]
Forward = Callable[[Floats, Floats], tuple[Floats, ...]]
"""Images (N, 1, H, W), z-scored, and their mm per pixel (N, 2) -> of a network of masks the logits
(N, S, H, W); of contours the points (N, K, 2), covariances (N, K, 2, 2), distances (N, H, W)."""
_PIECE = 8  # frames in one call of the network; bounds its memory


class _Place(NamedTuple):
    """Where in which picture a contour lies."""

    view: str
    frame: int
    mm_per_pixel: MillimetresPerPixel


class Segmenter:
    """Masks or contours of clips, whatever their size and spacing."""

    def __init__(self, card: SegmenterCard, forward: Forward) -> None:
        """Keep the card and the network of its weights."""
        self.card = card
        self._forward = forward

    def masks(
        self, clip: Clip, *, view: str, looks: Sequence[tuple[int, int]] = ONE_LOOK
    ) -> list[PredictedMask]:
        """The mask of every frame, of the clip's size and spacing.

        Args:
            clip: may be without spacing.
            view: id of the view.
            looks: moves over which the answer is averaged.

        Raises:
            EchoFedError: VIEW_UNKNOWN for a view that the segmenter has not seen, NAME_UNKNOWN for
                a segmenter of contours, SECTOR_EMPTY for a frame of one grey.
        """
        self._expect("masks", view)
        frames = [clip.frame(place) for place in range(len(clip.pixels_THW))]
        found: list[PredictedMask] = []
        for begin, image_N1HW in self._pieces(clip, clip.mm_per_pixel):
            found += predict_masks(
                self._logits,
                image_N1HW,
                frames[begin : begin + len(image_N1HW)],
                names=self.card.structures,
                looks=looks,
            )
        return found

    def contours(self, clip: Clip, *, view: str) -> list[Contour | None]:
        """The contour of every frame in mm with its covariance, None where there is none.

        Raises:
            EchoFedError: SPACING_MISSING, VIEW_UNKNOWN, NAME_UNKNOWN for a segmenter of masks,
                SECTOR_EMPTY.
        """
        self._expect("contours", view)
        spacing = require_spacing(clip.mm_per_pixel)
        size_HW = (clip.pixels_THW.shape[1], clip.pixels_THW.shape[2])
        found: list[Contour | None] = []
        for _, image_N1HW in self._pieces(clip, spacing):
            image_mm = fitted_spacing(size_HW, spacing, image_N1HW.shape[2:])
            image_mm_N2 = np.full((len(image_N1HW), 2), image_mm, np.float32)
            answer = map(torch.from_numpy, self._forward(_array(image_N1HW), image_mm_N2))
            for one in zip(image_N1HW, *answer, strict=True):
                image_11HW, *told = (part[None] for part in one)
                place = _Place(view, len(found), spacing)
                found.append(_contour(image_11HW, ContourAnswer(*told), size_HW, place))
        return found

    def _pieces(
        self, clip: Clip, spacing: MillimetresPerPixel | None
    ) -> Iterator[tuple[int, Tensor]]:
        """The clip's frames as the network wants them, a few at a time, with the first's index."""
        fitted_HW = fitted_size(clip.pixels_THW.shape[1:], spacing, self.card.image_size)
        num = len(clip.pixels_THW)
        for begin, end in pairwise([*range(0, num, _PIECE), num]):
            grey_THW = resized(clip.pixels_THW[begin:end], fitted_HW)
            yield begin, torch.from_numpy(z_scored(grey_THW))[:, None]

    def _logits(self, image_N1HW: Tensor) -> Tensor:
        nothing_N2 = np.zeros((len(image_N1HW), 2), np.float32)
        (logits,) = self._forward(_array(image_N1HW), nothing_N2)
        return torch.from_numpy(logits)

    def _expect(self, answers: str, view: str) -> None:
        if self.card.answers != answers:
            raise EchoFedError(
                Code.NAME_UNKNOWN,
                f"segmenter {self.card.id} gives {self.card.answers}, no {answers}",
                f"ask a segmenter of {answers}",
            )
        if view not in self.card.views:
            raise EchoFedError(
                Code.VIEW_UNKNOWN,
                f"segmenter {self.card.id} has not seen the view {view[:40]!r}",
                f"it knows {', '.join(self.card.views)}",
            )


def _contour(
    image_11HW: Tensor,
    answer: ContourAnswer,
    size_HW: tuple[int, int],
    place: _Place,
) -> Contour | None:
    """One frame's contour; None where the answer gives none."""
    spacing = place.mm_per_pixel
    try:
        (fused,) = predict_contours(lambda image, mm: answer, image_11HW, [size_HW], [spacing])
        points, covariance = fused.points_xy_mm_P2, fused.covariance_mm2
        return Contour(points, fused.apex, place.view, place.frame, spacing, covariance)
    except EchoFedError as error:
        if error.code not in {Code.CONTOUR_INVALID, Code.SHAPE_MISMATCH}:
            raise
        log.debug("frame %d has no contour: %s", place.frame, error.code.name)
        return None


def build_network(card: SegmenterCard) -> nn.Module:
    """The card's network before its weights are in."""
    num_outputs = card.num_landmarks if card.answers == "contours" else len(card.structures)
    network: nn.Module = SEGMENTERS[card.network](num_outputs, **card.options)
    return network


def build_forward(card: SegmenterCard, weights: bytes) -> Forward:
    """The card's network with its weights, in this process.

    Raises:
        EchoFedError: CHECKPOINT_CORRUPT for weights that do not fit, NAME_UNKNOWN for a network
            that is not in the table.
    """
    network = build_network(card)
    load_weights(network, unpack_tensors(weights))
    network.eval().to(memory_format=torch.channels_last)

    def masks(image_N1HW: Floats, mm_per_pixel_N2: Floats) -> tuple[Floats, ...]:
        with torch.inference_mode():
            return (_array(network(_last(image_N1HW))),)

    def contours(image_N1HW: Floats, mm_per_pixel_N2: Floats) -> tuple[Floats, ...]:
        with torch.inference_mode():
            maps = network(_last(image_N1HW), torch.from_numpy(mm_per_pixel_N2))
        answer = (maps.points_xy_mm_NK2, maps.covariance_mm2_NK22, maps.distance_mm_NHW)
        return tuple(map(_array, answer))

    return contours if card.answers == "contours" else masks


def build_stored(folder: str) -> Forward:
    """The network of a segmenter's folder; what a worker builds.

    Raises:
        EchoFedError: as ``load_segmenter_files`` and ``build_forward``.
    """
    return build_forward(*load_segmenter_files(Path(folder)))


def _last(image_N1HW: Floats) -> Tensor:
    return torch.from_numpy(image_N1HW).contiguous(memory_format=torch.channels_last)


def _array(tensor: Tensor) -> Floats:
    """The same values as a plain array, rows one after the other."""
    out: Floats = tensor.float().contiguous().numpy()
    return out
