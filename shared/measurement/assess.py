"""From the contours of an examination's cines to its measurements.

Each cine is smoothed in time and its end diastole and end systole found; then volumes from A4C and
A2C, else from one view, strain from all apical views, and what else the contours allow.
"""

from collections.abc import Sequence

from shared.echo.assessment import CAUTIONS, Assessment, Caution
from shared.echo.contour import Contour
from shared.echo.measurement import Measurement
from shared.errors import Code, EchoFedError
from shared.measurement.mass import measure_contour_mass
from shared.measurement.simpson import (
    Method,
    is_foreshortened,
    measure_ejection,
    measure_fac,
    measure_volume,
    plane_of,
)
from shared.measurement.strain import measure_gls, measure_mapse, measure_regional_strain
from shared.measurement.traced import Seen, TracedCine, see

_PLANES = ("A4C", "A2C", "A3C")
_PAIR = ("A4C", "A2C")


def assess(cines: Sequence[TracedCine], *, method: Method = "disks") -> Assessment:
    """Measure the left ventricle from cines of one patient's examination.

    EDV, ESV, SV and EF from A4C and A2C where both beat, else from the first apical view there is;
    GLS and MAPSE from all; `FAC A4C`, `GLS A4C` and `EF area-length A4C` of each view; strain of
    the segments where contours are tracked; LV mass where the outer face was traced. Stills alone
    give `LV volume`. The probe may move between frames.

    Args:
        cines: in any order, with any views; planes that are not apical are left out and said so.
        method: of the volumes.

    Raises:
        EchoFedError: VIEW_UNKNOWN; LANDMARKS_MISSING where nothing is left to measure.
    """
    views, cautions = _seen(cines)
    for view in views:
        cautions |= view.cautions
    moving = [view for view in views if view.es is not None]
    measurements = _of_beats(moving, method) if moving else _of_stills(views, method)
    measured = measurements.get("EDV") or measurements.get("LV volume")
    assert measured is not None
    if len(measured.views) == 1:
        cautions.add("single_plane")
    if _pair(views) and is_foreshortened([view.ed for view in _pair(views)]):
        cautions.add("foreshortened")
    measurements.update(_masses(views, method))
    ordered = tuple(name for name in CAUTIONS if name in cautions)
    return Assessment(measurements, tuple(view.beat for view in views), ordered)


def _seen(cines: Sequence[TracedCine]) -> tuple[list[Seen], set[Caution]]:
    """The best cine of each apical plane, and what became of the others."""
    cautions: set[Caution] = set()
    found: dict[str, list[Seen]] = {plane: [] for plane in _PLANES}
    for cine in cines:
        plane = plane_of(cine.view)
        if plane not in _PLANES:
            cautions.add("view_unfit")
        elif not any(contour is not None for contour in cine.contours):
            cautions.add("no_contour")
        else:
            found[plane].append(see(cine))
    if any(len(repeats) > 1 for repeats in found.values()):
        cautions.add("repeated_view")
    views = [_best(repeats) for repeats in found.values() if repeats]
    if not views:
        raise EchoFedError(
            Code.LANDMARKS_MISSING,
            f"{len(cines)} cines hold no contour of an apical view",
            "give apical cines that show the left ventricle",
        )
    return views, cautions


def _of_beats(views: Sequence[Seen], method: Method) -> dict[str, Measurement]:
    """What end diastole and end systole say."""
    pair = _pair(views) or list(views[:1])
    found = measure_ejection(_eds(pair), _ess(pair), method)
    found["GLS"] = measure_gls(_eds(views), _ess(views))
    found["MAPSE"] = measure_mapse(_eds(views), _ess(views))
    for view in views:
        ed, es = _eds([view]), _ess([view])
        found[f"FAC {view.cine.view}"] = measure_fac(ed[0], es[0])
        found[f"GLS {view.cine.view}"] = measure_gls(ed, es)
        for name, measured in measure_ejection(ed, es, "area-length").items():
            if name != "SV":
                found[f"{name} area-length {view.cine.view}"] = measured
        if view.cine.is_tracked:
            segments = measure_regional_strain(ed[0], es[0])
            found |= {measured.name: measured for measured in segments.values()}
    return found


def _of_stills(views: Sequence[Seen], method: Method) -> dict[str, Measurement]:
    """What one instant says."""
    pair = _pair(views) or list(views[:1])
    found = {"LV volume": measure_volume(_eds(pair), method)}
    for view in views:
        name = f"LV volume area-length {view.cine.view}"
        found[name] = measure_volume([view.ed], "area-length")
    return found


def _masses(views: Sequence[Seen], method: Method) -> dict[str, Measurement]:
    """LV mass at end diastole from the views whose outer face was traced in that frame."""
    traced = [(view, _outer(view)) for view in views]
    both = {plane_of(view.cine.view): (view.ed, outer) for view, outer in traced if outer}
    use = [both[plane] for plane in _PAIR if plane in both]
    if not use:
        return {}
    inner, outer = [faces[0] for faces in use], [faces[1] for faces in use]
    return {"LV mass": measure_contour_mass(inner, outer, method)}


def _outer(view: Seen) -> Contour | None:
    return (view.cine.epicardium or {}).get(view.at_ed)


def _best(repeats: Sequence[Seen]) -> Seen:
    """The cine of a plane that beats, with the largest area at end diastole.

    A plane that misses the long axis cuts a smaller section of the cavity, never a larger one.
    """
    return max(repeats, key=lambda view: (view.es is not None, view.ed.area_mm2))


def _pair(views: Sequence[Seen]) -> list[Seen]:
    """A4C and A2C, empty where one is missing."""
    by_plane = {plane_of(view.cine.view): view for view in views}
    return [by_plane[plane] for plane in _PAIR] if by_plane.keys() >= set(_PAIR) else []


def _eds(views: Sequence[Seen]) -> list[Contour]:
    return [view.ed for view in views]


def _ess(views: Sequence[Seen]) -> list[Contour]:
    return [view.es for view in views if view.es is not None]
