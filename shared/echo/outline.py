"""A fan fitted to points: the hull's straight sides to begin with, then robust least squares.

Parameters are apex row, apex column, left angle, right angle (rad from straight down) and outer
radius, in the units of the points.
"""

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]

_SIDE_DEG = (4.0, 80.0)  # angle of a fan's side from straight down
_INSIDE_WEIGHT = 0.4  # points inside the fan count less: dropout hides tissue, nothing invents it
_SYMMETRY = 0.4  # pull towards a fan that is symmetric about the vertical, as most are
_STEPS = 25  # of the fit; it has settled after ten
_MAX_OPENING_DEG = 100.0  # no probe of the heart opens wider


def sides_of(corners_rc: Points) -> Points | None:
    """Apex row and column and both angles (rad), from the hull's longest straight sides."""
    edges_rc = np.roll(corners_rc, -1, axis=0) - corners_rc
    left = _side(corners_rc, edges_rc, -1.0)
    right = _side(corners_rc, edges_rc, 1.0)
    if left is None or right is None:
        return None
    slopes = np.tan([left[2], right[2]])
    if slopes[1] - slopes[0] < 0.05:
        return None
    offsets = np.array([left[1] - slopes[0] * left[0], right[1] - slopes[1] * right[0]])
    row = (offsets[0] - offsets[1]) / (slopes[1] - slopes[0])
    return np.array([row, offsets[0] + slopes[0] * row, left[2], right[2]])


def fit_fan_outline(start: Points, points_rc: Points) -> Points:
    """Apex row and column, left and right angle (rad) and outer radius that fit the points.

    Damped Gauss-Newton on the soft-L1 loss: a few points on furniture do not move the outline.
    """
    fitted, damping = start, 1e-3
    residuals, jacobian = _residuals(fitted, points_rc)
    for _ in range(_STEPS):
        slope = 1.0 / np.sqrt(1.0 + residuals**2)  # derivative of 2 (sqrt(1 + r^2) - 1)
        normal = (jacobian * slope[:, None]).T @ jacobian
        normal += damping * np.diag(normal.diagonal() + 1e-9)
        move = np.linalg.solve(normal, -(jacobian * slope[:, None]).T @ residuals)
        trial_residuals, trial_jacobian = _residuals(fitted + move, points_rc)
        if _cost(trial_residuals) < _cost(residuals):
            fitted, residuals, jacobian = fitted + move, trial_residuals, trial_jacobian
            damping *= 0.3
            if np.abs(move[[0, 1, 4]]).max() < 0.01:
                break
        else:
            damping *= 10.0
    return fitted


def is_fan(parameters: Points) -> bool:
    """Looks down, opens as far as a probe can, and has its apex above its arc."""
    left, right = np.degrees(parameters[2:4])
    return bool(left < -2 and right > 2 and right - left < _MAX_OPENING_DEG and parameters[4] > 0)


def _side(
    corners_rc: Points, edges_rc: Points, outward: float
) -> tuple[float, float, float] | None:
    """A point (row, column) and the angle (rad) of the straight side that looks left or right."""
    middles_rc = corners_rc + edges_rc / 2
    centre_rc = corners_rc.mean(axis=0)
    down_rc = edges_rc * np.sign(edges_rc[:, :1] + 1e-9)
    angle = np.arctan2(down_rc[:, 1], down_rc[:, 0])
    steep = np.degrees(angle * outward)
    # the side runs away from the axis, and the middle of the hull lies below it
    above = middles_rc[:, 1] - centre_rc[1] - np.tan(angle) * (middles_rc[:, 0] - centre_rc[0])
    fits = (steep > _SIDE_DEG[0]) & (steep < _SIDE_DEG[1]) & (above * outward > 0)
    if not fits.any():
        return None
    length = np.hypot(*edges_rc.T) * fits
    near = np.abs(angle[:, None] - angle[None, :]) < np.radians(5)
    best = int((near * length[None, :]).sum(axis=1).argmax())
    weights = length * near[best]
    row, column = np.average(middles_rc, axis=0, weights=weights)
    return float(row), float(column), float(np.average(angle, weights=weights))


def _residuals(parameters: Points, points_rc: Points) -> tuple[Points, Points]:
    """Signed distance of each point from the fan without its upper arc, positive outside.

    The last residual is the pull towards symmetry. Returns residuals (P+1,) and their
    derivatives by the parameters (P+1, 5).
    """
    row, column, left, right, radius_max = parameters
    down, across = points_rc[:, 0] - row, points_rc[:, 1] - column
    radius = np.maximum(np.hypot(down, across), 1e-9)
    sin, cos = np.sin([left, right]), np.cos([left, right])
    distances = np.stack(
        [down * sin[0] - across * cos[0], across * cos[1] - down * sin[1], radius - radius_max]
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
    distance, slope = distances[nearest, places], slopes[nearest, :, places]
    weight = np.where(distance < 0, _INSIDE_WEIGHT, 1.0)
    pull = _SYMMETRY * len(points_rc)
    return (
        np.append(weight * distance, pull * (left + right)),
        np.vstack([weight[:, None] * slope, [0.0, 0.0, pull, pull, 0.0]]),
    )


def _cost(residuals: Points) -> float:
    return float(np.sqrt(1.0 + residuals**2).sum())
