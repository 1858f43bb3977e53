"""From a mask to a contour: base points, apex and wall of the left ventricle, by one extractor.

The base is where the cavity's outline touches something other than myocardium; if it touches
nothing else, where there is something else a few mm beyond it, since some masks close the valve.
The apex is the point of the outline farthest from the middle of the base (as in public contour
tools). The walls between them are sampled evenly by arc length in mm.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_fill_holes, gaussian_filter1d, label

from shared.echo.contour import Contour, Points, require_spacing
from shared.echo.frame import MillimetresPerPixel
from shared.errors import Code, EchoFedError
from shared.shapes import expect

Labels = npt.NDArray[np.uint8]

CAVITY, MYOCARDIUM, ATRIUM = 1, 2, 3
"""As CAMUS and the phantom write their masks."""
WALL_POINTS = 41
"""On each wall with its ends: 2 mm apart on an adult's heart."""
_SMOOTH_MM = 1.0  # a staircase is up to 8 % longer than its line; a curve of 10 mm loses 0.05 mm
_STEP_MM = 0.25
_LOOKS_MM = (0.0, 4.0)  # beyond the outline: at once, and more than a leaflet, less than a wall
_BRIDGE_MM = 4.0  # a crumb of myocardium on the mitral plane does not end the base
_MIN_AREA_MM2 = 150.0  # the smallest cavity at end systole is some 500
_MIN_BASE_MM = 6.0
_MAX_BASE_SHARE = 0.5  # of the outline; a base that long is a mask without walls


@dataclass(frozen=True, slots=True, eq=False)
class Extraction:
    """Contours of a cine; None where the mask gave none, and why, counted."""

    contours: tuple[Contour | None, ...]
    failures: Counter[str]


def contours_of(
    labels_THW: Labels, mm_per_pixel: MillimetresPerPixel | None, *, view: str
) -> Extraction:
    """The contour of every frame of a cine; a mask that gives none is counted, not refused.

    Raises:
        EchoFedError: SPACING_MISSING.
    """
    expect(labels_THW, "T H W")
    require_spacing(mm_per_pixel)
    contours: list[Contour | None] = []
    failures: Counter[str] = Counter()
    for frame, labels_HW in enumerate(labels_THW):
        try:
            contours.append(contour_of(labels_HW, mm_per_pixel, view=view, frame=frame))
        except EchoFedError as error:
            contours.append(None)
            failures[error.code.name] += 1
    return Extraction(tuple(contours), failures)


def contour_of(
    labels_HW: Labels, mm_per_pixel: MillimetresPerPixel | None, *, view: str, frame: int = 0
) -> Contour:
    """The endocardial contour of a label map in which the base lies below or beside the apex.

    The largest piece of cavity counts, its holes are filled. A point's mm are counted from the
    centre of the first pixel.

    Args:
        labels_HW: 1 cavity, 2 myocardium, 3 left atrium where it is known, else anything.
        mm_per_pixel: spacing of (rows, columns).
        view: id of the view.
        frame: index in the clip.

    Raises:
        EchoFedError: SPACING_MISSING; LANDMARKS_MISSING where the mask is empty, too small or shows
            no base; CONTOUR_INVALID where the outline crosses itself.
    """
    expect(labels_HW, "H W")
    row_mm, column_mm = require_spacing(mm_per_pixel)
    cavity_HW = _largest(labels_HW == CAVITY)
    if cavity_HW.sum() * row_mm * column_mm < _MIN_AREA_MM2:
        raise _missing(f"a cavity of {cavity_HW.sum() * row_mm * column_mm:.0f} mm^2", view, frame)
    rim_xy_px, outward_xy = _rim(cavity_HW)
    rim_mm = rim_xy_px * [column_mm, row_mm]
    steps_mm = np.hypot(*(np.roll(rim_mm, -1, axis=0) - rim_mm).T)
    found = None
    for look_mm in _LOOKS_MM:
        beyond = _beyond(labels_HW, rim_xy_px, outward_xy, (look_mm / row_mm, look_mm / column_mm))
        found = found or _base(beyond, steps_mm)
    if found is None:
        raise _missing("no base", view, frame)
    start, stop = found
    # the wall: on from the end of the base, all the way round to its start
    places = (stop + np.arange((start - stop) % len(rim_mm) + 1)) % len(rim_mm)
    wall_P2 = _smoothed(rim_mm[places])
    if wall_P2[0, 0] > wall_P2[-1, 0]:
        wall_P2 = wall_P2[::-1]
    apex = int(np.hypot(*(wall_P2 - (wall_P2[0] + wall_P2[-1]) / 2).T).argmax())
    if not 1 < apex < len(wall_P2) - 2:
        raise _missing("an apex at the base", view, frame)
    left, right = _even(wall_P2[: apex + 1], WALL_POINTS), _even(wall_P2[apex:], WALL_POINTS)
    points = np.concatenate([left, right[1:]])
    return Contour(points, WALL_POINTS - 1, view, frame, (row_mm, column_mm))


def epicardium_of(labels_HW: Labels, endocardium: Contour) -> Contour:
    """The outer face of the wall, from the line of the endocardium's base points over the apex.

    Raises:
        EchoFedError: LANDMARKS_MISSING where no wall closes over the cavity.
    """
    expect(labels_HW, "H W")
    row_mm, column_mm = endocardium.mm_per_pixel
    heart_HW = _largest(np.isin(labels_HW, (CAVITY, MYOCARDIUM)))
    if not heart_HW.any():  # the contour may come from another network, or from a smoothed cine
        raise _missing("neither cavity nor wall", endocardium.view, endocardium.frame)
    rim_mm = _rim(heart_HW)[0] * [column_mm, row_mm]
    left, right = endocardium.base_xy_mm
    across = np.array([left[1] - right[1], right[0] - left[0]])
    across = across / np.hypot(*across) * np.sign((endocardium.apex_xy_mm - left) @ across)
    is_above = (rim_mm - left) @ across > min(row_mm, column_mm) / 2  # the base itself is no wall
    edges = np.flatnonzero(is_above & ~np.roll(is_above, 1))
    if not len(edges):
        raise _missing("no outer face", endocardium.view, endocardium.frame)
    ring = np.roll(np.arange(len(rim_mm)), -edges[0])
    runs = np.split(ring, np.flatnonzero(~is_above[ring]))
    wall_P2 = _smoothed(rim_mm[max(((run[is_above[run]]) for run in runs), key=len)])
    if wall_P2[0, 0] > wall_P2[-1, 0]:
        wall_P2 = wall_P2[::-1]
    points = _even(wall_P2, 2 * WALL_POINTS - 1)
    apex = int(np.hypot(*(points - (points[0] + points[-1]) / 2).T)[1:-1].argmax()) + 1
    return Contour(points, apex, endocardium.view, endocardium.frame, endocardium.mm_per_pixel)


def _largest(is_cavity_HW: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The largest 4-connected piece, its holes filled."""
    pieces, num = label(is_cavity_HW)
    if num == 0:
        return np.zeros_like(is_cavity_HW)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    filled: npt.NDArray[np.bool_] = binary_fill_holes(pieces == sizes.argmax())
    return filled


def _rim(is_in_HW: npt.NDArray[np.bool_]) -> tuple[Points, Points]:
    """Middles (P, 2) of the pixel edges around a piece, in order, and the way out at each, (x, y).

    Edges run clockwise on the picture. The piece is 4-connected and has no holes, so no two of its
    pixels touch at a corner only, and one edge leaves each corner.
    """
    inside = np.pad(is_in_HW, 1)
    leaves: dict[tuple[int, int], tuple[tuple[int, int], tuple[int, int]]] = {}
    # of a pixel: the way to its neighbour, start corner and end corner of the edge they share
    sides = (
        ((-1, 0), (0, 0), (0, 1)),
        ((0, 1), (0, 1), (1, 1)),
        ((1, 0), (1, 1), (1, 0)),
        ((0, -1), (1, 0), (0, 0)),
    )
    for (down, right), first, last in sides:
        is_edge = inside & ~np.roll(inside, (-down, -right), axis=(0, 1))
        for row, column in np.argwhere(is_edge).tolist():
            corner, end = (row + first[0], column + first[1]), (row + last[0], column + last[1])
            leaves[corner] = end, (right, down)
    corner = start = next(iter(leaves))
    middles, outward = [], []
    while True:
        end, way = leaves[corner]
        # corner (0, 0) of the padded picture is (-1.5, -1.5) in pixels of the picture
        middles.append(((corner[1] + end[1]) / 2 - 1.5, (corner[0] + end[0]) / 2 - 1.5))
        outward.append(way)
        corner = end
        if corner == start:
            return np.array(middles), np.array(outward, dtype=np.float64)


def _beyond(
    labels_HW: Labels, rim_xy_px: Points, outward_xy: Points, look_px: tuple[float, float]
) -> Labels:
    """What lies in reach beyond each edge: atrium before anything else before myocardium.

    The next pixel is always in reach; look_px says how many (rows, columns) are.
    """
    padded = np.pad(labels_HW, 1)
    reach_P = np.where(outward_xy[:, 1] != 0, *look_px).clip(1.0, max(padded.shape))
    found = np.full(len(rim_xy_px), MYOCARDIUM, np.uint8)
    for step in range(1, int(np.ceil(reach_P.max())) + 1):
        places = np.rint(rim_xy_px + (step - 0.5) * outward_xy).astype(np.int64) + 1
        columns, rows = places.T.clip(0, np.array(padded.shape)[::-1, None] - 1)
        seen = padded[rows, columns]
        counts = (step <= np.ceil(reach_P)) & ~np.isin(seen, (CAVITY, MYOCARDIUM))
        counts &= found != ATRIUM
        found[counts] = seen[counts]
    return found


def _base(beyond_P: Labels, steps_mm: Points) -> tuple[int, int] | None:
    """First and last place of the stretch of a ring that is the base, None where there is none.

    Of the stretches that do not lie on myocardium it is the one with most atrium, then the longest.
    """
    is_open_P = beyond_P != MYOCARDIUM
    if is_open_P.all() or not is_open_P.any():
        return None
    # the ring is cut within a wall, so no stretch runs over the cut
    cut = int(np.flatnonzero(~is_open_P)[0])
    is_open, is_atrium = np.roll(is_open_P, -cut), np.roll(beyond_P == ATRIUM, -cut)
    steps = np.roll(steps_mm, -cut)
    at_mm = np.concatenate([[0.0], np.cumsum(steps)])
    edges = np.flatnonzero(np.diff(np.concatenate([[False], is_open, [False]]).astype(np.int8)))
    runs: list[list[int]] = []
    for start, stop in edges.reshape(-1, 2).tolist():
        if runs and at_mm[start] - at_mm[runs[-1][1]] < _BRIDGE_MM:
            runs[-1][1] = stop
        else:
            runs.append([start, stop])
    start, stop = max(
        runs, key=lambda run: (int(is_atrium[run[0] : run[1]].sum()), at_mm[run[1]] - at_mm[run[0]])
    )
    length = float(at_mm[stop] - at_mm[start])
    if not _MIN_BASE_MM <= length <= _MAX_BASE_SHARE * float(at_mm[-1]):
        return None
    return (start + cut) % len(steps), (stop - 1 + cut) % len(steps)


def _smoothed(points_P2: Points) -> Points:
    """The line without its staircase: a Gaussian along its length, ends kept."""
    at_mm = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points_P2, axis=0).T))])
    even = _even(points_P2, max(8, round(at_mm[-1] / _STEP_MM)))
    reach = min(len(even) - 1, round(4 * _SMOOTH_MM / _STEP_MM))
    # reflected through the ends, so that these stay where they are
    before = 2 * even[0] - even[reach:0:-1]
    after = 2 * even[-1] - even[-2 : -reach - 2 : -1]
    long = np.concatenate([before, even, after])
    smooth = gaussian_filter1d(long, _SMOOTH_MM / _STEP_MM, axis=0)
    kept: Points = smooth[reach : reach + len(even)]
    return kept


def _even(points_P2: Points, num: int) -> Points:
    """The same line through points that are equally far apart along it."""
    at_mm = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points_P2, axis=0).T))])
    places = np.linspace(0.0, at_mm[-1], num)
    return np.stack([np.interp(places, at_mm, points_P2[:, axis]) for axis in (0, 1)], axis=1)


def _missing(what: str, view: str, frame: int) -> EchoFedError:
    return EchoFedError(
        Code.LANDMARKS_MISSING,
        f"the mask of {view} in frame {frame} shows {what}",
        "look at the mask, or count the frame as failed",
    )
