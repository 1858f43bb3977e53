"""End diastole and end systole of a cine, and what a beat's contours say together."""

from collections.abc import Sequence

import numpy as np

from shared.echo.contour import Contour, Points
from shared.echo.measurement import Measurement
from shared.errors import Code, EchoFedError
from shared.measurement.simpson import Method, measure_ejection, measure_fac, volume_ml
from shared.measurement.strain import measure_gls, measure_mapse

_MIN_SWING = 0.02  # of the largest value; a curve that moves less holds no beat


def area_curve_mm2(contours: Sequence[Contour]) -> Points:
    """Area of one view in each frame, (T,)."""
    return np.array([contour.area_mm2 for contour in contours])


def volume_curve_ml(contours: Sequence[Contour], method: Method = "disks") -> Points:
    """Single-plane volume of one view in each frame, (T,)."""
    return np.array([volume_ml([c.points_xy_mm], [c.apex], method) for c in contours])


def find_ed_es(curve_T: Points) -> tuple[int, int]:
    """Places of end diastole and end systole on a volume or area curve.

    End systole is the smallest value of the curve, end diastole the largest of the filling before
    it; where the cine begins in this beat, the filling after it counts too. The largest of all may
    belong to another beat. Neighbours are averaged (1 2 1), so a single bad frame seldom decides.

    Raises:
        EchoFedError: FRAMES_MISSING for fewer than two frames or a curve without a beat,
            CONTOUR_INVALID for values that are no numbers.
    """
    if len(curve_T) < 2:
        raise EchoFedError(
            Code.FRAMES_MISSING, f"a beat needs frames; there are {len(curve_T)}", "give a cine"
        )
    if not np.isfinite(curve_T).all():
        raise EchoFedError(
            Code.CONTOUR_INVALID, "the curve holds no number in a frame", "leave the frame out"
        )
    padded = np.pad(curve_T, 1, mode="edge")
    smooth = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    low, high = float(smooth.min()), float(smooth.max())
    if high - low < _MIN_SWING * high:
        raise EchoFedError(
            Code.FRAMES_MISSING,
            f"the curve moves by {high - low:.3g} of {high:.3g}: no beat",
            "give a cine of at least one beat",
        )
    es = int(smooth.argmin())
    is_filled = smooth > (low + high) / 2
    # away from end systole: frames of the same systole, then those of one filling
    frames = es - 1 - _first_run(is_filled[:es][::-1])
    begins_within = not len(frames) or frames[smooth[frames].argmax()] == 0
    if begins_within:
        frames = np.append(frames, es + 1 + _first_run(is_filled[es + 1 :]))
    return int(frames[smooth[frames].argmax()]), es


def measure_beat(
    cines: Sequence[Sequence[Contour]], method: Method = "disks"
) -> dict[str, Measurement]:
    """All that the endocardial contours of one or two apical cines say, by name.

    EDV, ESV, SV, EF, GLS and MAPSE of all views together, FAC of each view (`FAC A4C`). Each view
    has its own instants, from its area.

    Args:
        cines: for each view its contours in order of time; two views need not beat in step.
        method: of the volumes.

    Raises:
        EchoFedError: FRAMES_MISSING where a cine holds no beat; VIEWS_UNFIT.
    """
    instants = [find_ed_es(area_curve_mm2(contours)) for contours in cines]
    ed = [contours[place] for contours, (place, _) in zip(cines, instants, strict=True)]
    es = [contours[place] for contours, (_, place) in zip(cines, instants, strict=True)]
    found = measure_ejection(ed, es, method)
    found["GLS"] = measure_gls(ed, es)
    found["MAPSE"] = measure_mapse(ed, es)
    for before, after in zip(ed, es, strict=True):
        found[f"FAC {before.view}"] = measure_fac(before, after)
    return found


def _first_run(is_in_T: np.ndarray) -> np.ndarray:
    """Places of the first unbroken run of true values."""
    places = np.flatnonzero(is_in_T)
    return places[: int((places - np.arange(len(places)) == places[:1].sum()).sum())]
