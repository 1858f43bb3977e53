"""Strain of the left ventricle's wall, from contours and from a displacement field; MAPSE.

Lagrangian strain in %: 100 (L(t) - L_ED) / L_ED, L along the wall from base to base without the
base line; shortening is negative.
"""

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import map_coordinates

from shared.echo.contour import Contour, Points, length_mm
from shared.echo.frame import MillimetresPerPixel
from shared.echo.measurement import Measurement
from shared.errors import Code, EchoFedError
from shared.measurement.interval import measure
from shared.measurement.simpson import plane_of, require_same_views
from shared.shapes import expect

SEGMENTS: dict[str, tuple[str, ...]] = {
    "A4C": (
        *("basal inferoseptal", "mid inferoseptal", "apical septal"),
        *("apical lateral", "mid anterolateral", "basal anterolateral"),
    ),
    "A2C": (
        *("basal inferior", "mid inferior", "apical inferior"),
        *("apical anterior", "mid anterior", "basal anterior"),
    ),
    "A3C": (
        *("basal inferolateral", "mid inferolateral", "apical inferolateral"),
        *("apical anteroseptal", "mid anteroseptal", "basal anteroseptal"),
    ),
}
"""The six arcs of each apical view from the left base point to the right one: 18 segments."""
_ARCS = 6


def strain_curve(contours: Sequence[Contour], ed: int) -> Points:
    """Global longitudinal strain of one view in each frame, (T,) in %.

    Args:
        contours: one view's, in order of time.
        ed: place of end diastole among them.

    Raises:
        EchoFedError: FRAMES_MISSING for fewer than two contours.
    """
    if len(contours) < 2:
        raise EchoFedError(
            Code.FRAMES_MISSING,
            f"strain compares frames; there are {len(contours)}",
            "give a cine",
        )
    lengths = np.array([contour.length_mm for contour in contours])
    curve: Points = 100.0 * (lengths / lengths[ed] - 1.0)
    return curve


def measure_gls(ed: Sequence[Contour], es: Sequence[Contour]) -> Measurement:
    """Global longitudinal strain at end systole in %, the mean over the views.

    Args:
        ed: one contour of each apical view at end diastole.
        es: the same views in the same order at end systole.

    Raises:
        EchoFedError: VIEWS_UNFIT for views that are not apical, twice there or not the same.
    """
    require_same_views(ed, es)
    planes = [plane_of(contour.view) for contour in ed]
    if not set(planes) <= SEGMENTS.keys() or len(set(planes)) < len(planes):
        raise EchoFedError(
            Code.VIEWS_UNFIT,
            f"no longitudinal strain from {[contour.view for contour in ed]}",
            "give A4C, A2C and A3C, each at most once",
        )
    half = len(ed)

    def mean_percent(points: Sequence[Points]) -> float:
        lengths = np.array([length_mm(part) for part in points])
        return float(np.mean(100.0 * (lengths[half:] / lengths[:half] - 1.0)))

    words = "longitudinal strain of the endocardial contour"
    return measure("GLS", "%", mean_percent, [*ed, *es], method=words)


def measure_regional_strain(ed: Contour, es: Contour) -> dict[str, Measurement]:
    """Strain of the six segments of an apical view at end systole in %.

    The arcs are equally long at end diastole. Point i of both contours must be the same tissue, as
    in a contour that was tracked; contours that were found in each frame by themselves tell the two
    walls apart and no more.

    Raises:
        EchoFedError: VIEWS_UNFIT, or CONTOUR_INVALID where the numbers of points differ.
    """
    require_same_views([ed], [es])
    names = SEGMENTS.get(plane_of(ed.view))
    if names is None:
        raise EchoFedError(Code.VIEWS_UNFIT, f"{ed.view} has no segments", "give an apical view")
    if len(ed.points_xy_mm) != len(es.points_xy_mm):
        raise EchoFedError(
            Code.CONTOUR_INVALID,
            f"the contours have {len(ed.points_xy_mm)} and {len(es.points_xy_mm)} points",
            "give contours of the same tissue points",
        )
    return {name: _segment(name, arc, ed, es) for arc, name in enumerate(names)}


def arc_strains(before_P2: Points, after_P2: Points, num_arcs: int = _ARCS) -> Points:
    """Strain in % of arcs that are equally long before, (A,); points correspond by index."""
    then, now = _travelled(before_P2), _travelled(after_P2)
    cuts = np.linspace(0.0, then[-1], num_arcs + 1)
    # a cut lies at the same share of the same edge at both instants
    lengths = np.diff(np.interp(cuts, then, now))
    strains: Points = 100.0 * (lengths / np.diff(cuts) - 1.0)
    return strains


def tangent_strain(
    displacement_HW2_mm: Points, contour: Contour, mm_per_pixel: MillimetresPerPixel
) -> Points:
    """Strain in % along the wall at each point of a contour from a displacement field, (P,).

    |F t| - 1 with F = I + grad u and t the unit tangent.

    Args:
        displacement_HW2_mm: how far the tissue at each pixel moves in (x, y); the point (0, 0) of
            the contour's plane is the centre of the first pixel.
        contour: where the strain is asked, at the instant from which the field leads.
        mm_per_pixel: spacing of (rows, columns) of the field.
    """
    expect(displacement_HW2_mm, "H W xy", xy=2)
    row_mm, column_mm = mm_per_pixel
    along_x: Points = np.gradient(displacement_HW2_mm, column_mm, axis=1)
    along_y: Points = np.gradient(displacement_HW2_mm, row_mm, axis=0)
    places = contour.points_xy_mm.T[::-1] / np.array([[row_mm], [column_mm]])
    gradient = np.stack([[_at(f[..., k], places) for f in (along_x, along_y)] for k in (0, 1)])
    tangents: Points = np.stack([np.gradient(axis) for axis in contour.points_xy_mm.T], axis=1)
    tangents /= np.hypot(*tangents.T)[:, None]
    moved = tangents + np.einsum("ijP,Pj->Pi", gradient, tangents)
    strains: Points = 100.0 * (np.hypot(*moved.T) - 1.0)
    return strains


def measure_mapse(ed: Sequence[Contour], es: Sequence[Contour]) -> Measurement:
    """How far the base points move towards the apex, along the axis at end diastole, in mm.

    The mean over both base points and all views; the probe is taken to stand still.

    Raises:
        EchoFedError: VIEWS_UNFIT where the instants show different views.
    """
    require_same_views(ed, es)
    half = len(ed)

    def mean_mm(points: Sequence[Points]) -> float:
        moves = [
            _descent_mm(points[place], points[half + place], contour.apex)
            for place, contour in enumerate(ed)
        ]
        return float(np.mean(moves))

    return measure("MAPSE", "mm", mean_mm, [*ed, *es], method="base points along the long axis")


def _segment(name: str, arc: int, ed: Contour, es: Contour) -> Measurement:
    return measure(
        f"strain {name}",
        "%",
        lambda points: float(arc_strains(points[0], points[1])[arc]),
        [ed, es],
        method="longitudinal strain of a tracked arc",
    )


def _descent_mm(before_P2: Points, after_P2: Points, apex: int) -> float:
    axis = before_P2[apex] - (before_P2[0] + before_P2[-1]) / 2
    moved = (after_P2[0] + after_P2[-1] - before_P2[0] - before_P2[-1]) / 2
    return float(moved @ axis / np.hypot(*axis))


def _travelled(points_P2: Points) -> Points:
    """Arc length at each point, (P,)."""
    steps = np.hypot(*np.diff(points_P2, axis=0).T)
    return np.concatenate([[0.0], np.cumsum(steps)])


def _at(values_HW: Points, places: Points) -> Points:
    found: Points = map_coordinates(values_HW, places, order=1, mode="nearest")
    return found
