"""Mass of shells in closed form, the cube formula, and calipers that are none."""

import numpy as np
import pytest

from shared.errors import Code, EchoFedError
from shared.measurement.mass import (
    Calipers,
    cube_mass_g,
    measure_contour_mass,
    measure_linear_mass,
    measure_rwt,
)
from shared.testing.contours import SPACING, half_ellipse


def _calipers(septum: float, cavity: float, wall: float, turn: float = 0.0) -> Calipers:
    at = np.cumsum([0.0, septum, cavity, wall])
    points = np.stack([at * np.sin(turn) + 30, at * np.cos(turn) - 4], axis=1)
    return Calipers(points, "PLAX", 3, SPACING)


def test_the_cube_formula_and_wall_thickness_of_a_stated_heart() -> None:
    # an outer width of 65 mm around a cavity of 47 mm
    found = measure_linear_mass(_calipers(9, 47, 9, turn=0.4))
    assert found.value == pytest.approx(0.832 * (274.625 - 103.823) + 0.6, rel=1e-9)
    assert found.unit == "g"
    assert found.views == ("PLAX",)
    assert found.frames == (3,)
    assert measure_rwt(_calipers(9, 47, 10, turn=0.4)).value == pytest.approx(20 / 47)


def test_the_cube_formula_scales_with_the_cube_and_weighs_no_wall_at_its_offset() -> None:
    assert cube_mass_g(0.0, 50.0, 0.0) == pytest.approx(0.6)
    one, two = cube_mass_g(9, 47, 9) - 0.6, cube_mass_g(18, 94, 18) - 0.6
    assert two == pytest.approx(8 * one)


def test_a_shell_between_half_ellipsoids_weighs_its_volume() -> None:
    inner = [half_ellipse(25, 85), half_ellipse(22, 85, view="A2C")]
    outer = [half_ellipse(34, 94), half_ellipse(31, 94, view="A2C")]
    truth = 1.05 * 2 / 3 * np.pi * (34 * 31 * 94 - 25 * 22 * 85) / 1000
    assert measure_contour_mass(inner, outer).value == pytest.approx(truth, rel=1e-3)
    assert measure_contour_mass(inner[:1], outer[:1]).frames == (0, 0)


def test_faces_the_wrong_way_round_are_refused() -> None:
    inner, outer = half_ellipse(25, 85), half_ellipse(34, 94)
    with pytest.raises(EchoFedError) as caught:
        measure_contour_mass([outer], [inner])
    assert caught.value.code is Code.CONTOUR_INVALID
    with pytest.raises(EchoFedError) as caught:
        measure_contour_mass([inner], [half_ellipse(34, 94, view="A2C")])
    assert caught.value.code is Code.VIEWS_UNFIT


def test_calipers_that_do_not_follow_each_other_are_refused() -> None:
    for wrong in ((9, -47, 9), (0, 47, 9), (9, np.nan, 9)):
        with pytest.raises(EchoFedError) as caught:
            _calipers(*wrong)
        assert caught.value.code is Code.CONTOUR_INVALID
    with pytest.raises(EchoFedError) as caught:
        Calipers(np.zeros((3, 2)), "PLAX", 0, SPACING)
    assert caught.value.code is Code.SHAPE_MISMATCH
    with pytest.raises(EchoFedError) as caught:
        Calipers(np.arange(8.0).reshape(4, 2), "PLAX", 0, (0.0, 1.0))
    assert caught.value.code is Code.SPACING_MISSING
