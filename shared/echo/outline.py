"""A fan fitted to its own edges: two straight sides, then arcs around the point where they meet.

Dropout hides tissue and nothing invents it. So an edge is not the mean of where tissue begins, but
the outermost line on which many rows (or beams) begin while few begin before it. Dark stretches
take support from an edge and never pull it inwards.

Parameters are apex row, apex column, left angle, right angle (rad from straight down) and far
radius, in pixels of the mask.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Mask = NDArray[np.bool_]

NEAR_PX = 1.6
"""Within which a row begins on an edge."""
_SIDES_DEG = np.arange(3.0, 70.0, 0.5)  # of a side from straight down
_RUN, _DENSE = 6, 3  # tissue begins where so many of so many pixels are lit; a tick does not
_STRAY = 1.5  # what a row that begins before an edge costs, against one that begins on it
_BEAMS, _SAMPLES = 80, 240  # of the polar picture in which arcs are looked for
_FAR_ROOM = 1.15  # arcs are looked for as far beyond the deepest tissue
_NEAR_QUANTILE = 0.2  # of the beams' first tissue: a near field is dark more often than noisy
_BESIDE = 20  # pixels beside a side in which a banner goes on
_STEPS = 12  # of the fit; it has settled after six
_MIN_ROWS = 12  # of a side
_MIN_OPENING_DEG = 16.0  # less is the rectangle of a linear probe
_MAX_OPENING_DEG = 120.0  # no probe of the heart opens wider than 100; curved ones do


@dataclass(frozen=True, slots=True, eq=False)
class Begins:
    """Where tissue begins in each row, from either side: (P, 2) points (row, column)."""

    left_rc: Points
    right_rc: Points


def begins_of(tissue_HW: Mask) -> Begins:
    """Look from both sides; rows whose tissue reaches the rim of the mask say nothing."""
    left_rc, mirrored_rc = _first_dense(tissue_HW), _first_dense(tissue_HW[:, ::-1])
    # a pixel's tissue begins at its rim, half a pixel before its middle
    left_rc[:, 1] -= 0.5
    right_rc = np.stack([mirrored_rc[:, 0], tissue_HW.shape[1] - 0.5 - mirrored_rc[:, 1]], axis=1)
    return Begins(left_rc, right_rc)


def fit_sides(begins: Begins) -> Points | None:
    """Apex row and column, left and right angle (rad) of the fan whose sides are best supported."""
    left = _side(begins.left_rc)
    right = _side(begins.right_rc * [1.0, -1.0])
    if left is None or right is None:
        return None
    # left: column = offset - slope * row; right the same, mirrored
    row = (left[0] + right[0]) / (left[1] + right[1])
    return np.array([row, left[0] - row * left[1], -np.arctan(left[1]), np.arctan(right[1])])


def fit_far(parameters: Points, tissue_HW: Mask) -> float:
    """Far radius that is best supported around this apex."""
    rows, columns = np.nonzero(tissue_HW)
    reach = float(np.hypot(rows - parameters[0], columns - parameters[1]).max()) * _FAR_ROOM
    radius = far_ends(parameters, tissue_HW, reach)[:, 1]
    return reach - outermost((reach - radius)[None])[0][0] if len(radius) else reach


def far_ends(parameters: Points, tissue_HW: Mask, reach: float) -> Points:
    """Angle and radius of the last tissue of each beam that has any."""
    angles, lit = _beams(parameters, tissue_HW, reach)
    found = _first_dense(lit[:, ::-1])
    radii = _radii(parameters, reach)
    radius = radii[-1] - (found[:, 1] - 0.5) * (radii[1] - radii[0])
    return np.stack([angles[found[:, 0].astype(int)], radius], axis=1)


def near_radius(parameters: Points, lit_HW: Mask) -> float:
    """Radius at which tissue begins; rows that are as lit beside the fan hold a banner."""
    row, column, left, right, far = parameters
    width = lit_HW.shape[1]
    so_far = np.zeros((len(lit_HW), width + 1), dtype=np.int64)
    np.cumsum(lit_HW, axis=1, out=so_far[:, 1:])
    rows = np.arange(len(lit_HW))
    sides = column + (rows - row) * np.tan([[left], [right]])
    begin, before, end, after = (
        so_far[rows, np.rint(side).clip(0, width).astype(np.int64)]
        for side in (sides[0], sides[0] - _BESIDE, sides[1], sides[1] + _BESIDE)
    )
    is_banner = 2 * (begin - before + after - end) > end - begin
    _, lit = _beams(parameters, lit_HW & ~is_banner[:, None], float(far))
    found = _first_dense(lit[8:-8])
    if not len(found):
        return 0.0
    radii = _radii(parameters, float(far))
    return float(np.quantile(radii[found[:, 1].astype(int)], _NEAR_QUANTILE))


def edge_points(parameters: Points, begins: Begins, tissue_HW: Mask, reach: float) -> Points:
    """Points (P, 2) within ``reach`` of the outline at which rows or beams of tissue begin."""
    angle, radius = far_ends(parameters, tissue_HW, float(parameters[4]) + 4 * reach).T
    arc_rc = parameters[:2] + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    found_rc = np.vstack([begins.left_rc, begins.right_rc, arc_rc])
    distance, _ = _outside(parameters, found_rc)
    kept: Points = found_rc[np.abs(distance) < reach]
    return kept


def fit_fan_outline(start: Points, points_rc: Points) -> Points:
    """Parameters that fit points on the outline: damped Gauss-Newton on the soft-L1 loss."""
    fitted, damping = start, 1e-3
    residuals, jacobian = _outside(fitted, points_rc)
    for _ in range(_STEPS):
        slope = 1.0 / np.sqrt(1.0 + residuals**2)  # derivative of 2 (sqrt(1 + r^2) - 1)
        normal = (jacobian * slope[:, None]).T @ jacobian
        normal += damping * np.diag(normal.diagonal() + 1e-9)
        move = np.linalg.solve(normal, -(jacobian * slope[:, None]).T @ residuals)
        trial_residuals, trial_jacobian = _outside(fitted + move, points_rc)
        if _cost(trial_residuals) < _cost(residuals):
            fitted, residuals, jacobian = fitted + move, trial_residuals, trial_jacobian
            damping *= 0.3
            if np.abs(move[[0, 1, 4]]).max() < 0.01:
                break
        else:
            damping *= 10.0
    return fitted


def support(parameters: Points, near: float, points_rc: Points, size_HW: tuple[int, int]) -> Points:
    """Share of the left side, of the right side and of the far arc on which tissue begins, (3,).

    Of an arc that the picture cuts, what lies on the picture counts, but no less than a quarter.
    """
    distance, jacobian = _outside(parameters, points_rc)
    row, column, left, right, far = parameters
    is_near = np.abs(distance) < NEAR_PX
    counts = np.array([(is_near & (jacobian[:, place] != 0)).sum() for place in (2, 3, 4)])
    angles = np.linspace(left, right, _BEAMS)
    rows, columns = row + far * np.cos(angles), column + far * np.sin(angles)
    is_shown = (rows < size_HW[0] - 1) & (columns > 0) & (columns < size_HW[1] - 1)
    arc = max(_BEAMS / 4, int(is_shown.sum()))
    lengths = np.array([(far - near) * np.cos(left), (far - near) * np.cos(right), arc])
    shares: Points = np.minimum(1.0, counts / np.maximum(1.0, lengths))
    return shares


def is_fan(parameters: Points) -> bool:
    """Looks down, opens as far as a probe can, and has its apex above its arc."""
    left, right = np.degrees(parameters[2:4])
    opens = _MIN_OPENING_DEG < right - left < _MAX_OPENING_DEG
    return bool(left < -2 and right > 2 and opens and parameters[4] > 0)


def outermost(values_AP: Points) -> tuple[Points, Points]:
    """In each row of values the low one that many share and few undercut, and its score, (A,)."""
    low = values_AP.min(axis=1, keepdims=True)
    bins = (values_AP - low).astype(np.int64)
    width = int(bins.max()) + 3
    flat = (bins + np.arange(len(bins))[:, None] * width).ravel()
    counts = np.bincount(flat, minlength=len(bins) * width).reshape(len(bins), width)
    shared = counts[:, :-2] + counts[:, 1:-1] + counts[:, 2:]
    before = np.cumsum(counts, axis=1)[:, :-2] - counts[:, :-2]
    scores = shared - _STRAY * before
    best = scores.argmax(axis=1)
    return low[:, 0] + best + 1.5, scores[np.arange(len(best)), best]


def _first_dense(lit_HW: Mask) -> Points:
    """Row and column of the first tissue of each row; rows that begin at the rim are left out."""
    height, width = lit_HW.shape
    so_far = np.zeros((height, width + _RUN), dtype=np.int16)
    np.cumsum(lit_HW, axis=1, out=so_far[:, 1 : width + 1])
    so_far[:, width + 1 :] = so_far[:, width, None]
    begins = lit_HW & (so_far[:, _RUN:] - so_far[:, :width] >= _DENSE)
    first = begins.argmax(axis=1)
    rows = np.flatnonzero(begins[np.arange(height), first] & (first > 0))
    return np.stack([rows, first[rows]], axis=1).astype(np.float64)


def _side(points_rc: Points) -> tuple[float, float] | None:
    """Column at row 0 and slope of a left side: column = offset - slope * row."""
    if len(points_rc) < _MIN_ROWS:
        return None
    rows, columns = points_rc.T
    angles = np.radians(_SIDES_DEG)[:, None]
    across = columns * np.cos(angles) + rows * np.sin(angles)
    place, score = outermost(across)
    best = int(score.argmax())
    on_line = np.abs(across[best] - place[best]) < NEAR_PX
    if on_line.sum() < _MIN_ROWS:
        return None
    slope, offset = np.polyfit(rows[on_line], columns[on_line], 1)
    return (float(offset), float(-slope)) if slope < -0.02 else None


def _radii(parameters: Points, reach: float) -> Points:
    """Of a beam's samples, from where beams enter the picture."""
    return np.linspace(max(0.0, -float(parameters[0])), reach, _SAMPLES)


def _beams(parameters: Points, lit_HW: Mask, reach: float) -> tuple[Points, Mask]:
    """Angles (B,) and the picture along them, nearest pixel, (B, S)."""
    row, column, left, right = parameters[:4]
    angles = np.linspace(left, right, _BEAMS + 2)[1:-1]
    radii = _radii(parameters, reach)
    rows = np.rint(row + np.cos(angles)[:, None] * radii).astype(np.int64)
    columns = np.rint(column + np.sin(angles)[:, None] * radii).astype(np.int64)
    height, width = lit_HW.shape
    on_mask = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    lit: Mask = on_mask & lit_HW[rows.clip(0, height - 1), columns.clip(0, width - 1)]
    return angles, lit


def _outside(parameters: Points, points_rc: Points) -> tuple[Points, Points]:
    """Signed distance of points from their nearest edge but the near arc, positive outside.

    Returns residuals (P,) and their derivatives by the parameters (P, 5).
    """
    row, column, left, right, far = parameters
    down, across = points_rc[:, 0] - row, points_rc[:, 1] - column
    radius = np.maximum(np.hypot(down, across), 1e-9)
    sin, cos = np.sin([left, right]), np.cos([left, right])
    distances = np.stack(
        [down * sin[0] - across * cos[0], across * cos[1] - down * sin[1], radius - far]
    )
    nearest = distances.argmax(axis=0)
    zero, one = np.zeros_like(down), np.ones_like(down)
    slopes = np.stack(
        [
            [-sin[0] * one, cos[0] * one, down * cos[0] + across * sin[0], zero, zero],
            [sin[1] * one, -cos[1] * one, zero, -across * sin[1] - down * cos[1], zero],
            [-down / radius, -across / radius, zero, zero, -one],
        ]
    )
    places = np.arange(len(points_rc))
    return distances[nearest, places], slopes[nearest, :, places]


def _cost(residuals: Points) -> float:
    return float(np.sqrt(1.0 + residuals**2).sum())
