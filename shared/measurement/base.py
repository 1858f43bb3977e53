"""One base for a whole cine: found frame by frame, it is now and then another one.

A plane beside the textbook's opens the outflow tract. Whether a mask's base takes it in changes
from frame to frame, and with it the wall's length by a fifth, while the area stays. Seen from the
middle of the area a hinge keeps its direction through the beat (to some 5 degrees), so a base
point whose direction is far from the cine's median is put where its neighbours in time have theirs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from shared.echo.contour import Contour, Points
from shared.errors import Code, EchoFedError

_FAR_RAD = 0.12  # 4 mm at an adult's hinge; the outflow tract opens 20 mm and more
_RING = 512  # points of a closed outline: half a millimetre apart
_MIN_FRAMES = 5
_NUM_POINTS = 81


@dataclass(frozen=True, slots=True, eq=False)
class _Outline:
    """A closed outline (M, 2): left base point, apex, right one, back along the base line.

    ``turns_M`` are the directions of its points from the middle of the area, 0 towards the base.
    """

    ring_M2: Points
    turns_M: Points
    base_turns: Points


def steady_base(contours: Sequence[Contour | None]) -> list[Contour | None]:
    """The contours with base points that agree over the cine; most stay as they are.

    Contours with a covariance all stay: they come from landmarks, whose base points have their own.
    None takes the place of a contour that cannot be cut anew.
    """
    shown = [place for place, contour in enumerate(contours) if contour is not None]
    steady = list(contours)
    is_sure = any(contour.covariance is not None for contour in contours if contour is not None)
    if is_sure or len(shown) < _MIN_FRAMES:
        return steady
    outlines = [_outline(contour) for contour in contours if contour is not None]
    turns_T2 = np.stack([outline.base_turns for outline in outlines])
    # the lower median is one of the frames' own: between two bases nothing would be near
    usual_2 = np.quantile(turns_T2, 0.5, axis=0, method="lower")
    is_near_T2 = np.abs(turns_T2 - usual_2) < _FAR_RAD
    for side in (0, 1):
        near = np.flatnonzero(is_near_T2[:, side])
        turns_T2[:, side] = np.interp(np.arange(len(shown)), near, turns_T2[near, side])
    for place, outline, turns, is_near in zip(shown, outlines, turns_T2, is_near_T2, strict=True):
        contour = contours[place]
        if contour is not None and not is_near.all():
            steady[place] = _cut(contour, outline, turns)
    return steady


def _outline(contour: Contour) -> _Outline:
    points = contour.points_xy_mm
    ring = _even(np.concatenate([points, points[:1]]), _RING + 1)[:-1]
    middle, axis = _axis(ring)
    if axis @ (points[[0, -1]].mean(axis=0) - middle) < 0:
        axis = -axis
    across = np.array([-axis[1], axis[0]])

    def turns(places_N2: Points) -> Points:
        apart = places_N2 - middle
        found: Points = np.arctan2(apart @ across, apart @ axis)
        return found

    return _Outline(ring, turns(ring), turns(points[[0, -1]]))


def _axis(ring_M2: Points) -> tuple[Points, Points]:
    """Centroid of the area and direction of its larger second moment (Green's theorem)."""
    start = ring_M2 - ring_M2.mean(axis=0)
    end = np.roll(start, -1, axis=0)
    twice = start[:, 0] * end[:, 1] - start[:, 1] * end[:, 0]
    area = twice.sum() / 2
    middle = ((start + end) * twice[:, None]).sum(axis=0) / (6 * area)
    pairs = ((start, start), (end, end), (start, end), (end, start))
    weights = (2.0, 2.0, 1.0, 1.0)
    moments = sum(
        weight * np.einsum("m,mi,mj->ij", twice, a, b)
        for weight, (a, b) in zip(weights, pairs, strict=True)
    )
    moments = moments / (24 * area) - np.outer(middle, middle)
    axis: Points = np.linalg.eigh(moments)[1][:, -1]
    return middle + ring_M2.mean(axis=0), axis


def _cut(contour: Contour, outline: _Outline, turns: Points) -> Contour | None:
    """The outline opened between two directions."""
    apart = np.abs((outline.turns_M[:, None] - turns + np.pi) % (2 * np.pi) - np.pi)
    left, right = (int(place) for place in apart.argmin(axis=0))
    wall = np.roll(outline.ring_M2, -left, axis=0)[: (right - left) % _RING + 1]
    points = _even(wall, _NUM_POINTS)
    apex = int(np.hypot(*(points - (points[0] + points[-1]) / 2).T)[1:-1].argmax()) + 1
    try:
        return replace(contour, points_xy_mm=points, apex=apex)
    except EchoFedError as error:
        if error.code is not Code.CONTOUR_INVALID:
            raise
        return None


def _even(points_P2: Points, num: int) -> Points:
    """The same line through points that are equally far apart along it."""
    at_mm = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points_P2, axis=0).T))])
    places = np.linspace(0.0, at_mm[-1], num)
    return np.stack([np.interp(places, at_mm, points_P2[:, axis]) for axis in (0, 1)], axis=1)
