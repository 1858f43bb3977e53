"""What lies beside a picture file and not in it: its annotation, and its scale where it has none.

Nothing is resized or turned to fit: a map of another size than its picture is a fault of the file.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shared.echo.annotation import Annotation
from shared.echo.frame import MillimetresPerPixel
from site_client.datasets.raw import RawClip, unreadable


@dataclass(frozen=True, slots=True, eq=False)
class RawLabels:
    """Label maps as one file keeps them.

    Args:
        labels_FHW: values of any type.
        structures: name of each value, empty where the file does not say.
        frames: of the clip that they are of, None where the file does not say.
        landmarks_xy_px_F32: as in ``Annotation``.
        leaves_out_frames: whether a map without any structure may stand for a frame that nobody
            looked at; it counts as such unless all are like that.
    """

    labels_FHW: NDArray[np.generic]
    structures: tuple[str, ...] = ()
    frames: tuple[int, ...] | None = None
    landmarks_xy_px_F32: NDArray[np.float64] | None = None
    leaves_out_frames: bool = False


LabelReader = Callable[[Path], RawLabels]
"""Raises DATA_UNREADABLE."""


class Annotator(Protocol):
    """Where the annotation of one file lies."""

    def mark(self) -> str:
        """Text that changes when what lies there does; raises OSError where it is gone."""
        ...

    def annotate(self, size_THW: tuple[int, ...]) -> Annotation:
        """The annotation of a clip of this size; faults are those of one file."""
        ...


@dataclass(frozen=True, slots=True)
class Beside:
    """What lies beside one picture file."""

    annotator: Annotator | None = None
    mm_per_pixel: MillimetresPerPixel | None = None

    def mark(self) -> str:
        """Text that changes when what lies there does; empty where nothing does."""
        scale = "" if self.mm_per_pixel is None else f" {self.mm_per_pixel}"
        return scale if self.annotator is None else f"{scale} {self.annotator.mark()}"

    def complete(self, clip: RawClip) -> RawClip:
        """The clip with what its own file does not say.

        Raises:
            EchoFedError: DATA_UNREADABLE, LABEL_UNMAPPED, LABEL_MAP_INVALID of the annotation.
        """
        annotator = self.annotator
        return replace(
            clip,
            mm_per_pixel=clip.mm_per_pixel or self.mm_per_pixel,
            annotation=annotator.annotate(clip.pixels_THW.shape) if annotator else None,
        )


def place_labels(
    raw: RawLabels, size_THW: tuple[int, ...], *, first: int | None
) -> tuple[tuple[int, ...], NDArray[np.uint8]]:
    """Frames and values (F, H, W) of the maps that somebody made.

    Args:
        raw: as read.
        size_THW: of the clip.
        first: frame of the clip that the first map is of; None where the file says it, or has a
            map for each frame.

    Raises:
        EchoFedError: DATA_UNREADABLE for another size, a frame that is not there, or values that
            are no small whole numbers.
    """
    labels_FHW = _whole_numbers(raw.labels_FHW)
    num = len(labels_FHW)
    if labels_FHW.shape[1:] != size_THW[1:]:
        height, width = labels_FHW.shape[1:]
        raise unreadable(
            f"has an annotation of {height} x {width} pixels, its picture has "
            f"{size_THW[1]} x {size_THW[2]}"
        )
    if first is not None:
        frames = tuple(range(first, first + num))
    elif raw.frames is not None:
        frames = raw.frames
    elif num == size_THW[0]:
        made = np.flatnonzero(labels_FHW.any(axis=(1, 2))) if raw.leaves_out_frames else ()
        frames = tuple(map(int, made)) if len(made) else tuple(range(num))
        labels_FHW = labels_FHW[list(frames)]
    else:
        raise unreadable(f"has an annotation of {num} frames, its picture has {size_THW[0]}")
    if frames and not 0 <= min(frames) <= max(frames) < size_THW[0]:
        raise unreadable(f"has an annotation of frames that are not among its {size_THW[0]}")
    return frames, labels_FHW


def _whole_numbers(labels_FHW: NDArray[np.generic]) -> NDArray[np.uint8]:
    with np.errstate(invalid="ignore"):  # not a number stays none, and is refused as such
        values = labels_FHW.astype(np.uint8)
    if labels_FHW.dtype.kind not in "biuf" or not np.array_equal(values, labels_FHW):
        raise unreadable("has an annotation whose values are not whole numbers up to 255")
    return values
