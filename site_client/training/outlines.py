"""What a contour network learns of annotated frames: landmarks and distances to the contour."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.echo.contour import Contour
from shared.errors import Code, EchoFedError
from shared.measurement.landmarks import ATRIUM, CAVITY, MYOCARDIUM, contour_of
from shared.segmentation.contour import landmarks_on
from shared.segmentation.distance import distance_from_mask
from site_client.annotated import AnnotatedFrames

STRUCTURE = "lv"
_AS_EXTRACTED = {"lv": CAVITY, "myocardium": MYOCARDIUM, "la": ATRIUM}


@dataclass(frozen=True, slots=True, eq=False)
class Outlines:
    """Contours of frames.

    Args:
        points_xy_px_NK2: landmarks (column, row) from base over apex to base.
        distance_mm_NSS: signed distance to the closed contour, negative inside.
    """

    points_xy_px_NK2: NDArray[np.float64]
    distance_mm_NSS: NDArray[np.float32]

    def take(self, place_N: NDArray[np.integer]) -> "Outlines":
        """Some of them, in the order given."""
        return Outlines(self.points_xy_px_NK2[place_N], self.distance_mm_NSS[place_N])


def outlines_of(
    frames: AnnotatedFrames, num_landmarks: int
) -> tuple[AnnotatedFrames, Outlines, Counter[str]]:
    """Contours of the frames that have one.

    Where base points or apex are annotated they count; the others lie on the mask's edge.

    Returns:
        The frames that have a contour, their contours, and why others have none.

    Raises:
        EchoFedError: CONFIG_INVALID for a number of landmarks that cannot be; LANDMARKS_MISSING
            where no frame has a contour.
    """
    points, distances, kept = [], [], []
    failures: Counter[str] = Counter()
    for place in range(len(frames)):
        labels_HW = as_extracted(frames.labels_NSS[place], frames.structures)
        row_mm, column_mm = frames.mm_per_pixel_N2[place].tolist()
        try:
            contour = contour_of(labels_HW, (row_mm, column_mm), view=_view(frames, place))
        except EchoFedError as error:
            failures[error.code.name] += 1
            continue
        points.append(_landmarks(contour, frames.landmarks_xy_px_N32[place], num_landmarks))
        distances.append(distance_from_mask(labels_HW == CAVITY, (row_mm, column_mm)))
        kept.append(place)
    if not kept:
        raise EchoFedError(
            Code.LANDMARKS_MISSING,
            f"none of {len(frames)} annotated frames has a contour of {STRUCTURE}",
            "contours need masks of cavity and myocardium, and the spacing of the pictures",
        )
    outlines = Outlines(np.stack(points), np.stack(distances).astype(np.float32))
    return frames.take(np.array(kept)), outlines, failures


def as_extracted(labels_HW: NDArray[np.uint8], structures: tuple[str, ...]) -> NDArray[np.uint8]:
    """Label maps with the values that the extractor of contours reads."""
    others = max(_AS_EXTRACTED.values()) + 1
    values = [_AS_EXTRACTED.get(name, others) for name in structures]
    values[0] = 0
    return np.array(values, np.uint8)[labels_HW]


def _landmarks(
    contour: Contour, annotated_xy_px_32: NDArray[np.float64], num_landmarks: int
) -> NDArray[np.float64]:
    row_mm, column_mm = contour.mm_per_pixel
    points_px = landmarks_on(contour.points_xy_mm, num_landmarks) / [column_mm, row_mm]
    ends_and_apex = [0, num_landmarks // 2, num_landmarks - 1]
    for place, known_xy_px in zip(ends_and_apex, annotated_xy_px_32, strict=True):
        if np.isfinite(known_xy_px).all():
            points_px[place] = known_xy_px
    return points_px


def _view(frames: AnnotatedFrames, place: int) -> str:
    return frames.views[int(frames.view_N[place])]
