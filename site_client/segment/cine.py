"""A segmented cine: a clip with all that the segmenters said of it, ready to be shown."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.echo.contour import Contour
from shared.echo.frame import Clip
from shared.echo.mask import Mask
from shared.echo.measurement import Measurement
from shared.errors import Code, EchoFedError

Doubt = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ModelName:
    """Which segmenter spoke: the id of its card and the hash of its weights."""

    id: str
    weights_sha256: str


@dataclass(frozen=True, slots=True, eq=False)
class SegmentedCine:
    """A clip of one view, or a single frame, with masks, contours and measurements.

    Args:
        clip: de-identified pixels.
        view: id of the view in the ontology.
        masks: of each frame, None where there is none; all of the clip's rows and columns.
        contours: of each frame, None where none was found.
        measurements: all that was measured, perhaps with the cine of another view.
        models: the segmenters that spoke, at least one; the one that gave the masks first.
        doubts_T: doubt of each pixel in [0, 1] of each frame, None where unknown.
        ed: index of the frame at end diastole, None where no beat was found.
        es: index of the frame at end systole.

    Raises:
        EchoFedError: SHAPE_MISMATCH for parts that are not as many as the frames or of another
            size, FRAMES_MISSING for an instant outside the cine.
    """

    clip: Clip
    view: str
    masks: tuple[Mask | None, ...]
    contours: tuple[Contour | None, ...]
    measurements: tuple[Measurement, ...]
    models: tuple[ModelName, ...]
    doubts_T: tuple[Doubt | None, ...] = ()
    ed: int | None = None
    es: int | None = None

    def __post_init__(self) -> None:
        """Refuse parts that do not belong to one clip."""
        num = len(self.clip.pixels_THW)
        counts = {len(self.masks), len(self.contours), len(self.doubts_T) or num}
        if counts != {num}:
            raise _mismatch(f"has {num} frames, but masks, contours or doubts of {sorted(counts)}")
        size_HW = self.clip.pixels_THW.shape[1:]
        sizes = {mask.labels_HW.shape for mask in self.masks if mask is not None}
        sizes |= {doubt_HW.shape for doubt_HW in self.doubts_T if doubt_HW is not None}
        if sizes - {size_HW}:
            raise _mismatch(f"is of {size_HW} pixels, a mask or a doubt is not")
        for frame in (self.ed, self.es):
            if frame is not None and not 0 <= frame < num:
                raise EchoFedError(
                    Code.FRAMES_MISSING,
                    f"frame {frame} is not among the {num} of the clip",
                    "count frames from 0",
                )

    @property
    def structures(self) -> tuple[str, ...]:
        """What the masks may show, without background, in the order of their first naming."""
        named = [name for mask in self.masks if mask is not None for name in mask.names[1:]]
        return tuple(dict.fromkeys(named))

    def seconds(self, frame: int) -> float | None:
        """Time of a frame after the first one, None where the time between frames is unknown."""
        step_ms = self.clip.frame_time_ms
        return None if step_ms is None else frame * step_ms / 1000


def contour_xy_px(contour: Contour) -> NDArray[np.float64]:
    """Points (P, 2) as (column, row) from the centre of the first pixel."""
    row_mm, column_mm = contour.mm_per_pixel
    points: NDArray[np.float64] = contour.points_xy_mm / [column_mm, row_mm]
    return points


def _mismatch(what: str) -> EchoFedError:
    return EchoFedError(
        Code.SHAPE_MISMATCH, f"a segmented cine {what}", "give one entry for each frame of the clip"
    )
