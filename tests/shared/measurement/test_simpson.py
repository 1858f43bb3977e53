"""V12 and V13 for volumes: ellipsoids in closed form, order, scaling, per-instant length."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from shared.echo.contour import Contour
from shared.errors import Code, EchoFedError
from shared.measurement.simpson import (
    Method,
    measure_ejection,
    measure_fac,
    measure_volume,
    plane_of,
    volume_ml,
)
from shared.testing.contours import half_ellipse, moved, scaled

DISKS: tuple[Method, ...] = ("disks", "basal disks")


def _truth_ml(a: float, b: float, length: float, cut: float = 0.0) -> float:
    """Volume of an ellipsoid above a cut at a share of its half axis along."""
    return np.pi * a * b * length * (1 - cut - (1 - cut**3) / 3) / 1000


def _error(contours: Sequence[Contour], truth: float, method: Method, num: int) -> float:
    points, apexes = [c.points_xy_mm for c in contours], [c.apex for c in contours]
    return volume_ml(points, apexes, method, num) / truth - 1


@pytest.mark.parametrize("method", DISKS)
@pytest.mark.parametrize("num", [10, 20, 40])
def test_mid_disks_err_by_an_eighth_of_n_squared(method: Method, num: int) -> None:
    pair = [half_ellipse(25, 90, num_points=1001), half_ellipse(21, 90, num_points=1001)]
    error = _error(pair, _truth_ml(25, 21, 90), method, num)
    assert error == pytest.approx(1 / (8 * num**2), rel=0.06)


@pytest.mark.parametrize("cut", [-0.3, 0.3])
def test_truncated_ellipsoids_converge_with_second_order(cut: float) -> None:
    contours = [half_ellipse(25, 90, cut=cut, num_points=1001)]
    truth = _truth_ml(25, 25, 90, cut)
    errors = [_error(contours, truth, "disks", num) for num in (10, 20, 40)]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.1)
    assert abs(errors[1]) < 6e-4


def test_a_cylinder_is_exact() -> None:
    left = np.stack([np.full(20, -20.0), np.linspace(0, -80, 20)], axis=1)
    top = np.stack([np.linspace(-16, 16, 9), np.full(9, -80.0)], axis=1)
    points = np.concatenate([left, top, (left * [-1, 1])[::-1]])
    cylinder = Contour(points, 24, "A2C", 0, (1.0, 1.0))
    for method in DISKS:
        found = measure_volume([cylinder], method).value
        assert found == pytest.approx(np.pi * 400 * 80 / 1000, rel=1e-12)


def test_area_length_is_exact_for_a_half_ellipsoid_and_a_sphere_formula_holds() -> None:
    contour = half_ellipse(25, 90, num_points=1001)
    found = measure_volume([contour], "area-length").value
    # 8 A^2 / (3 pi L) of half an ellipse is the half ellipsoid's volume
    assert found == pytest.approx(_truth_ml(25, 25, 90), rel=1e-5)


@pytest.mark.parametrize("method", [*DISKS, "area-length"])
def test_volume_ignores_rigid_motion_and_mirrors_and_scales_with_the_cube(method: Method) -> None:
    contour = half_ellipse(25, 90, cut=-0.2)
    volume = measure_volume([contour], method).value
    turned = moved(contour, turn_rad=1.1, shift_mm=(50, -9))
    mirrored = scaled(contour, -1.0, 1.0)
    assert measure_volume([turned], method).value == pytest.approx(volume, rel=1e-10)
    assert measure_volume([mirrored], method).value == pytest.approx(volume, rel=1e-10)
    big = measure_volume([scaled(contour, 1.5, 1.5)], method).value
    assert big == pytest.approx(1.5**3 * volume, rel=1e-10)


def test_spacing_per_axis_scales_width_and_length_apart() -> None:
    contour = half_ellipse()
    volume = measure_volume([contour]).value
    assert measure_volume([scaled(contour, 1.2, 0.9)]).value == pytest.approx(1.2**2 * 0.9 * volume)


def test_biplane_multiplies_the_views_and_takes_the_longer_axis() -> None:
    wide, narrow = half_ellipse(25, 90), half_ellipse(20, 81, view="A2C")
    found = measure_volume([wide, narrow])
    assert found.value == pytest.approx(_truth_ml(25, 20, 90), rel=1e-3)
    assert measure_volume([narrow, wide]).value == pytest.approx(found.value, rel=1e-12)
    assert found.views == ("A4C", "A2C")
    assert found.unit == "ml"
    assert found.method == "disks (biplane, 20)"
    assert found.mm_per_pixel == ((0.5, 0.5),) * 2


def _pair(radius: float, length: float, frame: int) -> list[Contour]:
    return [half_ellipse(radius, length, view=view, frame=frame) for view in ("A4C", "A2C")]


@pytest.mark.parametrize("shrink", [0.9, 0.85, 0.8])
def test_each_instant_has_its_own_length(shrink: float) -> None:
    # EDV and ESV as in the published error: one length for both would give 53.7 to 47.9
    radius = 25 * np.sqrt(50 / 120 / shrink)
    found = measure_ejection(_pair(25, 90, 0), _pair(radius, 90 * shrink, 9))
    assert found["EF"].value == pytest.approx(100 * (1 - 50 / 120), abs=1e-6)
    assert found["SV"].value == pytest.approx(found["EDV"].value - found["ESV"].value)
    assert found["EF"].frames == (0, 0, 9, 9)


@pytest.mark.parametrize("method", [*DISKS, "area-length"])
def test_uniform_contraction_gives_ef_and_fac_in_closed_form(method: Method) -> None:
    ed, s = half_ellipse(cut=-0.25), 0.82
    es = scaled(ed, s, s)
    found = measure_ejection([ed], [es], method)
    assert found["EF"].value == pytest.approx(100 * (1 - s**3), rel=1e-9)
    assert measure_fac(ed, es).value == pytest.approx(100 * (1 - s**2), rel=1e-12)


def test_pure_shortening_and_pure_thickening_give_ef_in_closed_form() -> None:
    ed = half_ellipse()
    long = measure_ejection([ed], [scaled(ed, 1.0, 0.8)])["EF"].value
    round_ = measure_ejection([ed], [scaled(ed, 0.8, 1.0)])["EF"].value
    assert long == pytest.approx(20.0, rel=1e-9)
    assert round_ == pytest.approx(36.0, rel=1e-9)


def _slanted(degrees: float, view: str) -> tuple[Contour, float]:
    """An ellipsoid below its equator, cut by a plane that leans within the picture."""
    a, length, level = 25.0, 65.0, -0.3
    slope = np.tan(np.radians(degrees))
    # scaled to the unit circle: line y = level + k x, in which the cut is straight too
    k = slope * a / length
    distance = level / np.sqrt(1 + k**2)
    lean = np.arctan(k)
    # points of the circle above the line, from its left crossing over the top to its right one
    ends = np.pi - np.arcsin(distance) + lean, np.arcsin(distance) + lean
    angles = np.linspace(*ends, 1001)
    points = np.stack([a * np.cos(angles), -length * np.sin(angles)], axis=1)
    middle = (points[0] + points[-1]) / 2
    apex = int(np.hypot(*(points - middle).T).argmax())
    truth = np.pi * a * a * length * (2 / 3 - distance + distance**3 / 3) / 1000
    return Contour(points, apex, view, 0, (0.5, 0.5)), truth


@pytest.mark.parametrize("degrees", [6.0, 12.0, 20.0])
def test_basal_disks_bear_a_slanted_base_better(degrees: float) -> None:
    contour, truth = _slanted(degrees, "A4C")
    straight = replace(_slanted(0.0, "A2C")[0])
    errors = {
        method: abs(measure_volume([contour, straight], method).value / truth - 1)
        for method in DISKS
    }
    assert errors["basal disks"] < errors["disks"]
    assert errors["basal disks"] < 0.02


def test_views_of_unlike_length_are_flagged() -> None:
    far, short = half_ellipse(25, 90), half_ellipse(25, 80, view="A2C")
    assert measure_volume([far, short]).flags == ("foreshortened",)
    fine = half_ellipse(25, 82, view="A2C")
    assert measure_volume([far, fine]).flags == ()
    assert measure_ejection([far, fine], [far, short])["EF"].flags == ("foreshortened",)


def test_views_that_do_not_fit_are_refused() -> None:
    four, two, three, short_axis = (
        half_ellipse(view=view) for view in ("A4C", "A2C", "A3C", "PSAX-PM")
    )
    wrong: list[tuple[list[Contour], Method]] = [
        ([], "disks"),
        ([four, four], "disks"),
        ([four, three], "disks"),
        ([four, two, three], "disks"),
        ([short_axis], "disks"),
        ([four, two], "area-length"),
    ]
    for contours, method in wrong:
        with pytest.raises(EchoFedError) as caught:
            measure_volume(contours, method)
        assert caught.value.code is Code.VIEWS_UNFIT
    for ed, es in (([four, two], [two, four]), ([four], [two]), ([four, two], [four])):
        with pytest.raises(EchoFedError) as caught:
            measure_ejection(ed, es)
        assert caught.value.code is Code.VIEWS_UNFIT


def test_a_view_counts_by_its_plane() -> None:
    assert plane_of("A4C-LV") == "A4C"
    focused = replace(half_ellipse(), view="A4C-LV")
    assert measure_volume([focused, half_ellipse(view="A2C")]).views == ("A4C-LV", "A2C")
