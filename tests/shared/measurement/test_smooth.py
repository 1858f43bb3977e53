"""Smoothing over time: what is steady stays, what flickers shrinks, what is far off goes."""

from dataclasses import replace

import numpy as np
import pytest

from shared.echo.contour import Contour
from shared.measurement.smooth import smooth_cine
from shared.testing.contours import half_ellipse, moved, scaled, with_noise


def _still(num_frames: int, noise_mm: float, seed: int = 0) -> list[Contour]:
    """A ventricle at rest whose points move in and out together in each frame."""
    contour = half_ellipse(num_points=41, cut=-0.3)
    generator = np.random.default_rng(seed)
    sizes = 1 + noise_mm / 40 * generator.normal(size=num_frames)
    return [scaled(contour, size, size, frame=place) for place, size in enumerate(sizes)]


def test_what_does_not_change_comes_through() -> None:
    cine = _still(12, 0.0)
    smooth = smooth_cine(cine, 30.0, is_tracked=True)
    for contour in smooth.contours:
        assert contour is not None
        np.testing.assert_allclose(contour.points_xy_mm, cine[0].points_xy_mm, atol=1e-6)
    np.testing.assert_allclose(smooth.mean.points_xy_mm, cine[0].points_xy_mm, atol=1e-6)


def test_a_drifting_probe_is_followed() -> None:
    cine = [
        moved(contour, turn_rad=0.01 * place, shift_mm=(1.5 * place, -0.5 * place))
        for place, contour in enumerate(_still(20, 0.0))
    ]
    smooth = smooth_cine(cine, 30.0, is_tracked=True)
    for before, after in zip(cine, smooth.contours, strict=True):
        assert after is not None
        np.testing.assert_allclose(after.points_xy_mm, before.points_xy_mm, atol=0.05)


def test_noise_shrinks_by_the_gain() -> None:
    areas = []
    for seed in range(30):
        smooth = smooth_cine(_still(24, 1.0, seed), 30.0)
        middle = smooth.contours[12]
        assert middle is not None
        areas.append(middle.area_mm2)
    raw = [_still(24, 1.0, seed)[12].area_mm2 for seed in range(30)]
    assert np.std(areas) < 0.7 * np.std(raw)


@pytest.mark.parametrize(("noise_mm", "low", "high"), [(0.0, 0.9, 1.01), (4.0, 0.2, 0.75)])
def test_only_what_is_seen_to_flicker_shrinks_the_covariance(
    noise_mm: float, low: float, high: float
) -> None:
    cine = [with_noise(contour, 1.0) for contour in _still(24, noise_mm)]
    smooth = smooth_cine(cine, 30.0, is_tracked=True)
    sure = smooth.sure(12).covariance
    assert sure is not None
    assert low < sure.trace() / len(sure) < high


def test_a_long_gap_is_not_filled() -> None:
    cine: list[Contour | None] = list(_still(40, 0.2))
    cine[3] = None
    cine[15:27] = [None] * 12
    smooth = smooth_cine(cine, 30.0)
    assert 3 in smooth.filled
    assert smooth.contours[20] is None
    filled = smooth.contours[3]
    assert filled is not None
    assert filled.frame == 3


def test_far_frames_go_and_at_most_three_in_ten() -> None:
    cine = _still(20, 0.2)
    far = [
        replace(c, points_xy_mm=c.points_xy_mm * 1.6) if i in (2, 11) else c
        for i, c in enumerate(cine)
    ]
    assert smooth_cine(far, 30.0).rejected == (2, 11)
    wild = [scaled(c, 1 + 0.5 * (i % 2), 1, frame=i) for i, c in enumerate(cine)]
    assert len(smooth_cine(wild, 30.0).rejected) <= 6


def test_frames_gone_astray_take_no_row_of_others_with_them() -> None:
    squeeze = np.sin(np.pi * np.arange(20) / 20) ** 4
    still = half_ellipse(num_points=41, cut=-0.3)
    beat: list[Contour | None] = [
        scaled(still, 1 - 0.55 * part, 1 - 0.35 * part, frame=place)
        for place, part in enumerate(squeeze)
    ]
    beat[9] = beat[10] = scaled(still, 1.0, 1.0, frame=9)
    # two side by side are a few frames' word against a few: their neighbours may go for them
    assert len(smooth_cine(beat, 33.0).rejected) <= 2
