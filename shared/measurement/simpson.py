"""Volumes of the left ventricle from apical contours: disks (Simpson) and area-length.

V = pi/4 sum a_i b_i L/n, the diameters taken in the middle of each disk and L that of the very
instant: a left rule adds 3/(4n) to a half ellipsoid (3.7 % at n = 20), and one L for both instants
takes 5 to 10 points off an EF of 58. Recommended by ASE/EACVI (Lang et al., J Am Soc Echocardiogr
2015;28:1-39).
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from shared.echo.contour import Contour, Points, area_mm2, long_axis_mm
from shared.echo.measurement import Flag, Measurement
from shared.echo.ontology import load_ontology
from shared.errors import Code, EchoFedError
from shared.measurement.interval import Formula, measure

NUM_DISKS = 20
FORESHORTENED = 0.10
"""Long axes of two views that differ by more than this share of the longer: our threshold."""
_APICAL = frozenset({"A4C", "A2C", "A3C"})
_PAIR = frozenset({"A4C", "A2C"})  # the guideline's; others are not at right angles
_MM3_PER_ML = 1000.0

Method = Literal["disks", "basal disks", "area-length"]


class Stack(NamedTuple):
    """Disks of one view: diameters (n,) in mm, the length they fill, and their slant's cosine."""

    widths_mm: Points
    length_mm: float
    cosine: float


def disks_across(points_P2: Points, apex: int, num_disks: int) -> Stack:
    """Disks at right angles to the long axis, from the middle of the base to the apex."""
    middle = (points_P2[0] + points_P2[-1]) / 2
    axis = points_P2[apex] - middle
    length = float(np.hypot(*axis))
    heights = (points_P2 - middle) @ axis / length
    across = (points_P2 - middle) @ np.array([-axis[1], axis[0]]) / length
    return Stack(_widths(across, heights, length, num_disks), length, 1.0)


def disks_from_base(points_P2: Points, apex: int, num_disks: int) -> Stack:
    """Disks parallel to the base line, up to the point farthest from it.

    A slanted base fills them where disks across the axis are cut short (after Kim et al.,
    Ultrasound Med Biol 2022;48:2476; the formula is ours). A height h at slant t takes
    L = h / cos t of the axis; disks with diameters a, b that slant by t, u hold
    pi/4 a b cos t cos u per mm of L.
    """
    base = points_P2[-1] - points_P2[0]
    along = base / np.hypot(*base)
    normal = np.array([-along[1], along[0]])
    offsets = points_P2 - points_P2[0]
    heights = offsets @ normal
    if heights[apex] < 0:
        heights, normal = -heights, -normal
    height = float(heights.max())
    axis = points_P2[apex] - (points_P2[0] + points_P2[-1]) / 2
    cosine = float(axis @ normal / np.hypot(*axis))
    return Stack(_widths(offsets @ along, heights, height, num_disks), height / cosine, cosine)


_CUTS: dict[str, Callable[[Points, int, int], Stack]] = {
    "disks": disks_across,
    "basal disks": disks_from_base,
}


def volume_ml(
    points: Sequence[Points], apexes: Sequence[int], method: Method, num_disks: int = NUM_DISKS
) -> float:
    """Volume from the points (P, 2) of one view (round sections) or of two at right angles."""
    if method == "area-length":
        area = area_mm2(points[0])
        length = long_axis_mm(points[0], apexes[0])
        return 8 * area**2 / (3 * np.pi * length) / _MM3_PER_ML
    cut = _CUTS[method]
    stacks = [cut(part, apex, num_disks) for part, apex in zip(points, apexes, strict=True)]
    first, second = stacks[0], stacks[-1]
    # of one view the slant of the other is unknown, and taken as none
    slant = first.cosine * (second.cosine if len(stacks) == 2 else 1.0)
    areas = np.pi / 4 * first.widths_mm * second.widths_mm * slant
    length = max(stack.length_mm for stack in stacks)
    return float(areas.sum() * length / num_disks / _MM3_PER_ML)


def measure_volume(
    contours: Sequence[Contour], method: Method = "disks", *, name: str = "LV volume"
) -> Measurement:
    """Volume of one instant from one apical view, or from A4C and A2C.

    Raises:
        EchoFedError: VIEWS_UNFIT for other views or numbers of views.
    """
    require_views(contours, method)
    apexes = [contour.apex for contour in contours]
    return measure(
        name,
        "ml",
        lambda points: volume_ml(points, apexes, method),
        contours,
        method=_in_words(contours, method),
        flags=_flags(contours),
    )


def measure_ejection(
    ed: Sequence[Contour], es: Sequence[Contour], method: Method = "disks"
) -> dict[str, Measurement]:
    """EDV, ESV and SV in ml and EF in % from the contours of the two instants.

    Args:
        ed: one apical view, or A4C and A2C, at end diastole.
        es: the same views in the same order at end systole.
        method: "basal disks" bear a slanted base better; "area-length" takes one view.

    Raises:
        EchoFedError: VIEWS_UNFIT for other views, or where the instants show different ones.
    """
    require_same_views(ed, es)
    both = [*ed, *es]
    formulas: dict[str, Formula] = {
        "SV": lambda points: float(np.subtract(*_pair(points, both, method))),
        "EF": lambda points: _lost_percent(*_pair(points, both, method)),
    }
    found = {
        "EDV": measure_volume(ed, method, name="EDV"),
        "ESV": measure_volume(es, method, name="ESV"),
    }
    flags = found["EDV"].flags or found["ESV"].flags
    for name, formula in formulas.items():
        unit: Literal["ml", "%"] = "ml" if name == "SV" else "%"
        words = _in_words(ed, method)
        found[name] = measure(name, unit, formula, both, method=words, flags=flags)
    return found


def measure_fac(ed: Contour, es: Contour) -> Measurement:
    """Fractional area change in %.

    Raises:
        EchoFedError: VIEWS_UNFIT where the instants show different views.
    """
    require_same_views([ed], [es])
    return measure(
        "FAC",
        "%",
        lambda points: _lost_percent(area_mm2(points[0]), area_mm2(points[1])),
        [ed, es],
        method="fractional area change",
    )


def require_views(contours: Sequence[Contour], method: Method) -> None:
    """Refuse views from which this method gives no volume.

    Raises:
        EchoFedError: VIEWS_UNFIT.
    """
    planes = [plane_of(contour.view) for contour in contours]
    fits = len(planes) == 1 and planes[0] in _APICAL
    if method != "area-length":
        fits = fits or (len(planes) == 2 and set(planes) == _PAIR)
    if not fits:
        raise EchoFedError(
            Code.VIEWS_UNFIT,
            f"no volume by {method} from {[contour.view for contour in contours]}",
            "give one apical view, or for disks A4C and A2C",
        )


def require_same_views(ed: Sequence[Contour], es: Sequence[Contour]) -> None:
    """Refuse instants that do not show the same views in the same order.

    Raises:
        EchoFedError: VIEWS_UNFIT.
    """
    views = [[contour.view for contour in contours] for contours in (ed, es)]
    if not ed or views[0] != views[1]:
        raise EchoFedError(
            Code.VIEWS_UNFIT,
            f"end diastole shows {views[0]}, end systole {views[1]}",
            "give the same views in the same order",
        )


def plane_of(view: str) -> str:
    """The plane that a view shows; focus and contrast are its own matter.

    Raises:
        EchoFedError: VIEW_UNKNOWN.
    """
    return load_ontology().find(view).facets.plane


def is_foreshortened(contours: Sequence[Contour]) -> bool:
    """Whether the long axes of two views differ so much that one plane misses the apex."""
    lengths = [contour.long_axis_mm for contour in contours]
    return min(lengths) < (1 - FORESHORTENED) * max(lengths)


def _widths(across: Points, heights: Points, length: float, num_disks: int) -> Points:
    """Length of the closed polygon's inside on lines in the middle of each disk, (n,).

    Each edge adds its crossing, plus where it goes up and minus where it goes down.
    """
    levels = (np.arange(num_disks)[:, None] + 0.5) * length / num_disks
    end, end_across = np.roll(heights, -1), np.roll(across, -1)
    goes_up = (heights <= levels) & (levels < end)
    goes_down = (end <= levels) & (levels < heights)
    rise = np.where(end == heights, 1.0, end - heights)
    crossing = across + (levels - heights) / rise * (end_across - across)
    signed = np.where(goes_up, crossing, 0.0) - np.where(goes_down, crossing, 0.0)
    widths: Points = np.abs(signed.sum(axis=1))
    return widths


def _pair(points: Sequence[Points], both: Sequence[Contour], method: Method) -> tuple[float, float]:
    """Volumes of the first and the second half of the contours."""
    half = len(both) // 2
    apexes = [contour.apex for contour in both]
    return (
        volume_ml(points[:half], apexes[:half], method),
        volume_ml(points[half:], apexes[half:], method),
    )


def _lost_percent(before: float, after: float) -> float:
    return 100.0 * (before - after) / before


def _flags(contours: Sequence[Contour]) -> tuple[Flag, ...]:
    return ("foreshortened",) if is_foreshortened(contours) else ()


def _in_words(contours: Sequence[Contour], method: Method) -> str:
    if method == "area-length":
        return "area-length, single plane"
    planes = "single plane" if len(contours) == 1 else "biplane"
    return f"{method} ({planes}, {NUM_DISKS})"
