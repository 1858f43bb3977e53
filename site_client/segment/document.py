"""What was found in a cine as a JSON document: outlines, numbers, models and how sure they are."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from shared.echo.contour import Contour
from shared.echo.frame import MillimetresPerPixel
from shared.echo.measurement import Measurement
from shared.echo.schema import from_document, to_document
from site_client.segment.cine import ModelName, SegmentedCine, contour_xy_px

FINDINGS_VERSION = 1

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Outline:
    """A contour from one base point over the apex to the other.

    Args:
        points_xy_mm: from the centre of the first pixel, x to the right and y down.
        points_xy_px: the same points as (column, row).
        apex: place of the apex among them.
        sd_mm: root of the mean variance of a coordinate, None where unknown.
    """

    points_xy_mm: Points
    points_xy_px: Points
    apex: int
    area_mm2: float
    long_axis_mm: float
    sd_mm: float | None


@dataclass(frozen=True, slots=True)
class FrameFindings:
    """What was found in one frame.

    Args:
        seconds: after the first frame, None where the time between frames is unknown.
        outline: None where no contour was found.
        num_pixels: of each structure, empty where there is no mask.
        mean_doubt: of the pixels that show a structure, in [0, 1]; None where unknown.
    """

    frame: int
    seconds: float | None
    outline: Outline | None
    num_pixels: dict[str, int]
    mean_doubt: float | None


@dataclass(frozen=True, slots=True)
class Findings:
    """All that was found in a cine, without its pixels.

    Args:
        clip: key of the clip; no patient is named.
        ed: index of the frame at end diastole, None where no beat was found.
        es: index of the frame at end systole.
    """

    clip: str
    view: str
    size_HW: tuple[int, int]
    mm_per_pixel: MillimetresPerPixel | None
    frame_time_ms: float | None
    ed: int | None
    es: int | None
    models: tuple[ModelName, ...]
    measurements: tuple[Measurement, ...]
    frames: tuple[FrameFindings, ...]
    kind: Literal["findings"] = "findings"
    version: int = FINDINGS_VERSION


def findings_of(segmented: SegmentedCine) -> Findings:
    """What a segmented cine says, in plain numbers."""
    clip = segmented.clip
    rows, columns = clip.pixels_THW.shape[1:]
    return Findings(
        clip=clip.key,
        view=segmented.view,
        size_HW=(rows, columns),
        mm_per_pixel=clip.mm_per_pixel,
        frame_time_ms=clip.frame_time_ms,
        ed=segmented.ed,
        es=segmented.es,
        models=segmented.models,
        measurements=segmented.measurements,
        frames=tuple(_frame_findings(segmented, frame) for frame in range(len(segmented.masks))),
    )


def findings_document(segmented: SegmentedCine) -> dict[str, object]:
    """The document of a segmented cine; a patient has no place in it."""
    return to_document(findings_of(segmented))


def read_findings(document: dict[str, object]) -> Findings:
    """The findings of a document.

    Raises:
        EchoFedError: CARD_NEWER for a later version, CHECKPOINT_CORRUPT for a misfit.
    """
    return from_document(Findings, document, version=FINDINGS_VERSION)


def _frame_findings(segmented: SegmentedCine, frame: int) -> FrameFindings:
    mask, contour = segmented.masks[frame], segmented.contours[frame]
    doubt_HW = segmented.doubts_T[frame] if segmented.doubts_T else None
    counts = {} if mask is None else {name: int(mask.region(name).sum()) for name in mask.names[1:]}
    mean_doubt = None
    if mask is not None and doubt_HW is not None and any(counts.values()):
        mean_doubt = float(doubt_HW[mask.labels_HW > 0].mean(dtype=np.float64))
    return FrameFindings(
        frame=frame,
        seconds=segmented.seconds(frame),
        outline=None if contour is None else _outline(contour),
        num_pixels=counts,
        mean_doubt=mean_doubt,
    )


def _outline(contour: Contour) -> Outline:
    variance = None if contour.covariance is None else float(np.diag(contour.covariance).mean())
    return Outline(
        points_xy_mm=_plain(contour.points_xy_mm),
        points_xy_px=_plain(contour_xy_px(contour)),
        apex=contour.apex,
        area_mm2=contour.area_mm2,
        long_axis_mm=contour.long_axis_mm,
        sd_mm=None if variance is None else variance**0.5,
    )


def _plain(points_P2: NDArray[np.float64]) -> Points:
    return tuple((float(x), float(y)) for x, y in points_P2)
