"""Edges lie where tissue begins, and no darkness pulls them inwards."""

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.echo.outline import (
    begins_of,
    fit_far,
    fit_sides,
    is_fan,
    near_radius,
    outermost,
    support,
)
from shared.echo.sector import Fan

SIZE = (300, 400)
FANS = (
    Fan((12.0, 200.0), -38.0, 38.0, 3.0, 250.0),
    Fan((15.0, 190.0), -25.0, 43.0, 10.0, 240.0),
    Fan((-160.0, 200.0), -18.0, 18.0, 190.0, 430.0),
)


def tissue(fan: Fan, seed: int) -> NDArray[np.bool_]:
    lit: NDArray[np.bool_] = fan.mask(SIZE) & (np.random.default_rng(seed).random(SIZE) < 0.8)
    return lit


@pytest.mark.parametrize("fan", FANS)
@pytest.mark.parametrize("dark", ["", "right", "bottom left"])
def test_a_dark_part_leaves_the_outline_where_it_is(fan: Fan, dark: str, seed: int) -> None:
    lit = tissue(fan, seed)
    lit[150:, 200 if dark == "right" else SIZE[1] :] = False
    lit[190:, : 200 if dark == "bottom left" else 0] = False
    sides = fit_sides(begins_of(lit))
    assert sides is not None
    assert np.abs(np.degrees(sides[2:]) - [fan.angle_min_deg, fan.angle_max_deg]).max() < 1.0
    far = fit_far(sides, lit)
    assert far == pytest.approx(fan.radius_max_px, abs=4.0)
    assert near_radius(np.append(sides, far), lit) == pytest.approx(fan.radius_min_px, abs=6.0)


def test_words_beside_a_fan_leave_its_side_where_it_is(seed: int) -> None:
    fan = FANS[0]
    lit = tissue(fan, seed)
    for row in (80, 140, 200):
        begin = int(fan.apex_rc[1] - (row - fan.apex_rc[0]) * np.tan(np.radians(38.0)))
        lit[row - 5 : row + 5, begin - 18 : begin - 6] = True
    sides = fit_sides(begins_of(lit))
    assert sides is not None
    assert np.degrees(sides[2]) == pytest.approx(fan.angle_min_deg, abs=0.5)


def test_a_banner_above_a_curved_probe_is_not_its_near_field(seed: int) -> None:
    fan = Fan((10.0, 200.0), -40.0, 40.0, 60.0, 260.0)
    lit = tissue(fan, seed)
    lit[22:30, 20:380:2] = True
    parameters = np.array([10.0, 200.0, *np.radians([-40.0, 40.0]), 260.0])
    assert near_radius(parameters, lit) == pytest.approx(60.0, abs=3.0)


def test_the_outermost_value_is_shared_by_many_and_undercut_by_few() -> None:
    values = np.array([[3.0] * 2 + [10.2] * 20 + [30.0] * 25])
    place, _ = outermost(values)
    assert place[0] == pytest.approx(10.2, abs=1.5)


def test_a_whole_outline_is_held_and_half_of_one_half() -> None:
    fan = FANS[0]
    parameters = np.array([*fan.apex_rc, *np.radians([-38.0, 38.0]), fan.radius_max_px])
    radius = np.arange(3.0, 250.0, 1.25)
    left_rc = np.stack(
        [12.0 + radius * np.cos(parameters[2]), 200.0 + radius * np.sin(parameters[2])], axis=1
    )
    whole = support(parameters, 3.0, left_rc, SIZE)
    half = support(parameters, 3.0, left_rc[::2], SIZE)
    assert whole[0] > 0.95
    assert half[0] == pytest.approx(whole[0] / 2, abs=0.05)
    assert (whole[1:] == 0.0).all()


@pytest.mark.parametrize(
    ("left_deg", "right_deg", "is_one"),
    [(-37, 37, True), (-3, 40, True), (-6, 5, False), (-1, 60, False), (-70, 70, False)],
)
def test_a_fan_opens_as_a_probe_can(left_deg: int, right_deg: int, is_one: bool) -> None:
    parameters = np.array([0.0, 100.0, *np.radians([left_deg, right_deg]), 200.0])
    assert is_fan(parameters) is is_one
