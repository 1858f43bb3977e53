"""An assessment: all that the cines of one examination say about the left ventricle."""

from dataclasses import dataclass
from typing import Literal, get_args

from shared.echo.contour import Contour
from shared.echo.measurement import Measurement

Caution = Literal[
    "frames_filled",
    "frames_rejected",
    "part_of_beat",
    "no_motion",
    "still",
    "no_contour",
    "view_unfit",
    "repeated_view",
    "single_plane",
    "foreshortened",
    "frame_time_missing",
]
CAUTIONS: tuple[Caution, ...] = get_args(Caution)
"""What may speak against an assessment:

frames_filled: frames without a contour lie between others and were filled from them.
frames_rejected: contours far from their neighbours in time were left out.
part_of_beat: the cine does not show the heart fill on both sides of end systole.
no_motion: the area changes no more than its noise does; both instants are the mean of all frames.
still: a view was seen in one frame only.
no_contour: a cine had no frame with a contour.
view_unfit: a cine is of a view from which nothing here is measured.
repeated_view: a plane was there more than once; the cine with the largest diastolic area counts.
single_plane: volumes stand on one view and take its sections to be round.
foreshortened: the long axes of the two views differ by more than a tenth.
frame_time_missing: smoothing in time had to guess the time between frames.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Beat:
    """One view of an assessment: its contours, smoothed in time, and its instants.

    Args:
        view: id of the view.
        contours: of each frame of the cine, None where too few neighbours had one.
        ed: index of end diastole in ``contours``, None for a still.
        es: index of end systole.
        filled: frames that had no contour of their own.
        rejected: frames whose own contour was left out.
        period_ms: length of a beat where the cine showed more than one and they were folded.
    """

    view: str
    contours: tuple[Contour | None, ...]
    ed: int | None
    es: int | None
    filled: tuple[int, ...] = ()
    rejected: tuple[int, ...] = ()
    period_ms: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Assessment:
    """Measurements by name, the views they stand on, and what speaks against them.

    Args:
        measurements: names such as EDV, ESV, SV, EF, GLS, MAPSE, `FAC A4C`, `LV mass`.
        beats: the view of each cine that counted.
        cautions: of ``CAUTIONS``, in their order, each once.
    """

    measurements: dict[str, Measurement]
    beats: tuple[Beat, ...]
    cautions: tuple[Caution, ...]
