"""Contours with closed forms: ellipsoids cut at their base."""

from dataclasses import replace

import numpy as np

from shared.echo.contour import Contour, Points

SPACING = (0.5, 0.5)


def half_ellipse(
    radius_mm: float = 25.0,
    length_mm: float = 90.0,
    *,
    view: str = "A4C",
    num_points: int = 401,
    cut: float = 0.0,
    frame: int = 0,
) -> Contour:
    """A cavity with its apex up: half an ellipse, or less of it, or more with a negative cut.

    Args:
        radius_mm: half axis across.
        length_mm: half axis along.
        view: id of the view.
        num_points: odd, even in the ellipse's own angle.
        cut: height of the base above the widest section, as a share of the half axis along.
        frame: index in the clip.
    """
    end = np.arcsin(cut)
    angles = np.linspace(np.pi - end, end, num_points)
    points = np.stack([radius_mm * np.cos(angles), -length_mm * np.sin(angles)], axis=1)
    return Contour(points, num_points // 2, view, frame, SPACING)


def moved(
    contour: Contour, *, turn_rad: float = 0.0, shift_mm: tuple[float, float] = (0.0, 0.0)
) -> Contour:
    """The contour after a rigid motion."""
    cos, sin = np.cos(turn_rad), np.sin(turn_rad)
    turned: Points = contour.points_xy_mm @ np.array([[cos, sin], [-sin, cos]])
    return replace(contour, points_xy_mm=turned + shift_mm)


def scaled(contour: Contour, across: float, along: float, *, frame: int = 1) -> Contour:
    """The contour stretched in x and y, in another frame."""
    return replace(contour, points_xy_mm=contour.points_xy_mm * [across, along], frame=frame)


def with_noise(contour: Contour, sd_mm: float) -> Contour:
    """The contour with the covariance of independent points."""
    return replace(contour, covariance=sd_mm**2 * np.eye(contour.points_xy_mm.size))
