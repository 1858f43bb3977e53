"""One cine's contours, smoothed, with its end diastole and end systole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from shared.echo.assessment import Beat, Caution
from shared.echo.contour import Contour
from shared.echo.frame import MillimetresPerPixel
from shared.errors import Code, EchoFedError
from shared.measurement.base import steady_base
from shared.measurement.cycle import area_curve_mm2, find_ed_es
from shared.measurement.landmarks import Labels, contours_of, epicardium_of
from shared.measurement.smooth import MIN_FRAMES, SmoothCine, smooth_cine

_DRAWS = 400  # of a heart that stands still, to see how far noise alone swings
_SURE = 0.99
_SEED = 20240501  # the draws are part of the method
_SIDE = 0.9  # of the swing on both sides of end systole make a whole beat


@dataclass(frozen=True, slots=True, eq=False)
class TracedCine:
    """The contours of one cine.

    Args:
        contours: endocardium of each frame in order, None where there is none.
        view: id of the view.
        frame_time_ms: between frames, None where unknown.
        epicardium: of frames by their place among the contours; for LV mass.
        is_tracked: whether point i is the same tissue in each frame; segments need it.
    """

    contours: Sequence[Contour | None]
    view: str
    frame_time_ms: float | None
    epicardium: Mapping[int, Contour] = field(default_factory=dict)
    is_tracked: bool = False


class Seen(NamedTuple):
    """A view at its instants.

    Args:
        cine: from which it comes.
        beat: all frames, for those who draw them.
        at_ed: place of end diastole, or of the only instant.
        ed: its contour.
        es: contour at end systole, None where the cine holds one instant only.
        cautions: what speaks against it.
    """

    cine: TracedCine
    beat: Beat
    at_ed: int
    ed: Contour
    es: Contour | None
    cautions: frozenset[Caution]


def trace_masks(
    labels_THW: Labels,
    mm_per_pixel: MillimetresPerPixel | None,
    *,
    view: str,
    frame_time_ms: float | None,
) -> TracedCine:
    """The contours of label maps: 1 cavity, 2 myocardium, 3 left atrium, else anything.

    Raises:
        EchoFedError: SPACING_MISSING.
    """
    contours = contours_of(labels_THW, mm_per_pixel, view=view).contours
    outer: dict[int, Contour] = {}
    for place, contour in enumerate(contours):
        if contour is not None:
            try:
                outer[place] = epicardium_of(labels_THW[place], contour)
            except EchoFedError:
                continue  # a mask without a whole wall says nothing about mass
    return TracedCine(contours, view, frame_time_ms, outer)


def see(cine: TracedCine) -> Seen:
    """Find the instants of a cine that holds one contour at least; smooth it if it holds enough."""
    num = sum(contour is not None for contour in cine.contours)
    return _see_smooth(cine) if num >= MIN_FRAMES else _see_raw(cine)


def _see_smooth(cine: TracedCine) -> Seen:
    steady = cine.contours if cine.is_tracked else steady_base(cine.contours)
    if len(_given(steady)) < MIN_FRAMES:
        steady = cine.contours
    smooth = smooth_cine(steady, cine.frame_time_ms, is_tracked=cine.is_tracked)
    cautions: set[Caution] = set()
    cautions |= {"frames_filled"} if smooth.filled else set()
    cautions |= {"frames_rejected"} if smooth.rejected else set()
    cautions |= {"frame_time_missing"} if cine.frame_time_ms is None else set()
    contours = list(smooth.contours)
    instants = _moving(smooth)
    if instants is None:
        cautions.add("no_motion")
        ed = es = smooth.sure_mean()
        at_ed = at_es = _shown(cine.contours)[0]
    else:
        at_ed, at_es = instants
        ed, es = smooth.sure(at_ed), smooth.sure(at_es)
        contours[at_ed], contours[at_es] = ed, es
        if smooth.period is None and _is_part(contours, at_es):
            cautions.add("part_of_beat")
    is_timed = smooth.period is not None and cine.frame_time_ms is not None
    beat = Beat(
        cine.view,
        tuple(contours),
        at_ed,
        at_es,
        smooth.filled,
        smooth.rejected,
        smooth.period if is_timed else None,
    )
    return Seen(cine, beat, at_ed, ed, es, frozenset(cautions))


def _see_raw(cine: TracedCine) -> Seen:
    """The instants of a few frames, as they are."""
    shown = _shown(cine.contours)
    contours = _given(cine.contours)
    try:
        at_ed, at_es = (shown[place] for place in find_ed_es(area_curve_mm2(contours)))
    except EchoFedError as error:
        if error.code is not Code.FRAMES_MISSING:
            raise
        largest = int(area_curve_mm2(contours).argmax())
        beat = Beat(cine.view, tuple(cine.contours), None, None)
        caution: Caution = "still"
        return Seen(cine, beat, shown[largest], contours[largest], None, frozenset({caution}))
    beat = Beat(cine.view, tuple(cine.contours), at_ed, at_es)
    ed, es = contours[shown.index(at_ed)], contours[shown.index(at_es)]
    is_part = _is_part(cine.contours, at_es)
    return Seen(cine, beat, at_ed, ed, es, frozenset({"part_of_beat"} if is_part else set()))


def _moving(smooth: SmoothCine) -> tuple[int, int] | None:
    """Places of both instants, None where noise alone would swing as far."""
    shown = _shown(smooth.contours)
    curve = area_curve_mm2(_given(smooth.contours))
    generator = np.random.default_rng(_SEED)
    noise = generator.normal(size=(len(smooth.sources), _DRAWS)) * smooth.area_noise
    swings = np.ptp(smooth.fit.weights_ST[shown] @ noise, axis=0)
    if np.ptp(curve) <= np.quantile(swings, _SURE) * curve.mean():
        return None
    try:
        ed, es = find_ed_es(curve)
    except EchoFedError as error:
        if error.code is not Code.FRAMES_MISSING:
            raise
        return None
    return shown[ed], shown[es]


def _is_part(contours: Sequence[Contour | None], at_es: int) -> bool:
    """Whether the ventricle is not seen to fill on both sides of end systole."""
    curve = area_curve_mm2(_given(contours))
    es = _shown(contours).index(at_es)
    enough = curve.min() + _SIDE * np.ptp(curve)
    return bool(curve[: es + 1].max() < enough or curve[es:].max() < enough)


def _shown(contours: Sequence[Contour | None]) -> list[int]:
    return [place for place, contour in enumerate(contours) if contour is not None]


def _given(contours: Sequence[Contour | None]) -> list[Contour]:
    return [contour for contour in contours if contour is not None]
