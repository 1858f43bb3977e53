"""Laws of the contour: lengths and areas in closed form, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import ellipe

from shared.echo.contour import Contour
from shared.errors import Code, EchoFedError
from shared.testing.contours import SPACING, half_ellipse, moved


def test_length_area_and_axis_of_a_half_ellipse_are_closed_forms() -> None:
    contour = half_ellipse(25.0, 90.0, num_points=1001)
    arc = 2 * 90.0 * ellipe(1 - (25.0 / 90.0) ** 2)
    assert contour.length_mm == pytest.approx(arc, rel=1e-5)
    assert contour.area_mm2 == pytest.approx(np.pi * 25.0 * 90.0 / 2, rel=1e-5)
    assert contour.long_axis_mm == pytest.approx(90.0, rel=1e-12)


def test_rigid_motion_and_direction_change_nothing() -> None:
    contour = half_ellipse(cut=-0.3)
    other = moved(contour, turn_rad=2.1, shift_mm=(300.0, -40.0))
    reverse = replace(contour, points_xy_mm=contour.points_xy_mm[::-1])
    for same in (other, reverse):
        assert same.area_mm2 == pytest.approx(contour.area_mm2, rel=1e-12)
        assert same.length_mm == pytest.approx(contour.length_mm, rel=1e-12)
        assert same.long_axis_mm == pytest.approx(contour.long_axis_mm, rel=1e-12)


def _refused(**changes: object) -> EchoFedError:
    with pytest.raises(EchoFedError) as caught:
        replace(half_ellipse(num_points=41), **changes)  # type: ignore[arg-type]
    return caught.value


@pytest.mark.parametrize("spacing", [None, (0.0, 0.5), (np.nan, 0.5), (0.5, -1.0), (np.inf, 1.0)])
def test_a_contour_without_spacing_is_refused(spacing: tuple[float, float] | None) -> None:
    assert _refused(mm_per_pixel=spacing).code is Code.SPACING_MISSING


def test_open_contours_are_refused() -> None:
    points = half_ellipse(num_points=41).points_xy_mm
    assert "open" in _refused(apex=0).message
    assert "open" in _refused(apex=40).message
    assert "open" in _refused(apex=99).message
    gap = np.concatenate([points[:4], points[19:]])
    assert "mm apart" in _refused(points_xy_mm=gap, apex=5).message


def test_self_crossing_contours_are_refused() -> None:
    points = half_ellipse(num_points=41).points_xy_mm.copy()
    points[[5, 8]] = points[[8, 5]]
    assert "crosses itself" in _refused(points_xy_mm=points).message
    below = half_ellipse(num_points=41).points_xy_mm.copy()
    below[2] = (-5.0, 8.0)  # only the base line is crossed
    assert "crosses itself" in _refused(points_xy_mm=below).message


def test_numbers_that_are_none_and_few_points_are_refused() -> None:
    points = half_ellipse(num_points=41).points_xy_mm.copy()
    points[3, 1] = np.nan
    assert _refused(points_xy_mm=points).code is Code.CONTOUR_INVALID
    assert _refused(points_xy_mm=points[:5], apex=2).code is Code.CONTOUR_INVALID
    assert "1025 points" in _refused(points_xy_mm=np.zeros((1025, 2))).message
    assert _refused(points_xy_mm=np.zeros((41, 2))).code is Code.CONTOUR_INVALID
    assert _refused(points_xy_mm=np.zeros((41, 3))).code is Code.SHAPE_MISMATCH


def test_covariances_that_are_none_are_refused() -> None:
    lopsided = np.eye(82)
    lopsided[0, 1] = 0.5
    for wrong in (-np.eye(82), lopsided, np.full((82, 82), np.nan)):
        assert _refused(covariance=wrong).code is Code.CONTOUR_INVALID
    assert _refused(covariance=np.eye(41)).code is Code.SHAPE_MISMATCH


def test_seven_landmarks_are_a_contour() -> None:
    angles = np.linspace(np.pi, 0.0, 7)
    points = np.stack([22.5 * np.cos(angles), -85.0 * np.sin(angles)], axis=1)
    assert Contour(points, 3, "A4C", 0, SPACING).apex_xy_mm[1] == pytest.approx(-85.0)
