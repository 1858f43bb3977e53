"""Pixels to beams and back: a smooth picture survives, and what is off the picture is nothing."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion

from shared.echo.polar import to_cartesian, to_polar
from shared.echo.sector import Fan

SIZE = (240, 320)
FANS = (
    Fan((8.0, 160.0), -37.0, 37.0, 0.0, 220.0),
    Fan((10.0, 140.0), -25.0, 40.0, 20.0, 200.0),
    Fan((-150.0, 160.0), -20.0, 20.0, 170.0, 380.0),
)


def smooth(size: tuple[int, int]) -> NDArray[np.float64]:
    """Waves of some fifty pixels between 0 and 2."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    waves: NDArray[np.float64] = 1.0 + np.sin(rows / 9.0) * np.cos(columns / 8.0)
    return waves


@pytest.mark.parametrize("fan", FANS)
def test_a_picture_survives_beams_and_back(fan: Fan) -> None:
    picture = smooth(SIZE)
    back = to_cartesian(to_polar(picture, fan, 600, 600), fan, SIZE)
    inside = fan.mask(SIZE)
    assert back.dtype == np.float64
    # bilinear error: an eighth of the curvature, once for the pixels and once for the beams
    assert np.abs(back - picture)[inside].max() < 0.01
    assert not back[~inside].any()


@pytest.mark.parametrize("fan", FANS)
def test_beams_survive_a_picture_and_back(fan: Fan) -> None:
    beams = smooth((200, 90))
    back = to_polar(to_cartesian(beams, fan, (960, 1280)), fan, 200, 90)
    picture_holds = to_polar(binary_erosion(fan.mask((960, 1280))), fan, 200, 90) == 1.0
    picture_holds[: 20 if fan.radius_min_px < 30 else 0] = False  # beams finer than pixels
    assert picture_holds.mean() > 0.8
    assert np.abs(back - beams)[picture_holds].max() < 0.05


def test_what_is_linear_along_the_beams_is_exact() -> None:
    fan = FANS[1]
    depth = np.linspace(0.0, 1.0, 80)[:, None]
    beams = 3.0 * depth + np.linspace(-1.0, 1.0, 50)
    rows, columns = np.nonzero(fan.mask(SIZE))
    down, right = rows - fan.apex_rc[0], columns - fan.apex_rc[1]
    radius = (np.hypot(down, right) - fan.radius_min_px) / (fan.radius_max_px - fan.radius_min_px)
    angle = np.degrees(np.arctan2(right, down))
    aside = (angle - fan.angle_min_deg) / (fan.angle_max_deg - fan.angle_min_deg)
    drawn = to_cartesian(beams, fan, SIZE)[rows, columns]
    assert np.allclose(drawn, 3.0 * radius + 2.0 * aside - 1.0, atol=1e-9)


def test_samples_off_the_picture_are_zero() -> None:
    fan = Fan((-50.0, 160.0), -30.0, 30.0, 10.0, 400.0)
    beams = to_polar(np.ones(SIZE), fan, 100, 21)
    assert not beams[0].any()
    assert not beams[-1].any()
    assert (beams[30:60, 10] == 1.0).all()
