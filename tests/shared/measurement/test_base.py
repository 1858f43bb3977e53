"""A base that jumps between two places is held to one; a base that beats is left alone."""

import numpy as np
import pytest

from shared.echo.contour import Contour
from shared.measurement.base import steady_base
from shared.testing.contours import half_ellipse, moved, scaled, with_noise


def _beat(num_frames: int = 24) -> list[Contour | None]:
    still = half_ellipse(num_points=161, cut=-0.3)
    squeeze = np.sin(np.pi * np.arange(num_frames) / num_frames) ** 2
    return [
        scaled(still, 1 - 0.25 * part, 1 - 0.15 * part, frame=place)
        for place, part in enumerate(squeeze)
    ]


def _walled(contour: Contour | None) -> Contour:
    """The same outline; the first two fifths of its base line count as wall."""
    assert contour is not None
    points = contour.points_xy_mm
    shares = np.linspace(0.4, 0.0, 9)[:-1, None]
    longer = np.concatenate([points[0] + shares * (points[-1] - points[0]), points])
    return Contour(longer, contour.apex + 8, "A4C", contour.frame, contour.mm_per_pixel)


def test_a_base_that_beats_is_left_alone() -> None:
    beat = _beat()
    assert steady_base(beat) == beat


@pytest.mark.parametrize("turn_rad", [0.0, 0.5])
def test_a_base_that_is_short_now_and_then_is_made_whole(turn_rad: float) -> None:
    whole = [moved(contour, turn_rad=turn_rad) for contour in _beat() if contour]
    jumps = [_walled(c) if place % 3 == 0 else c for place, c in enumerate(whole)]
    found = steady_base(jumps)
    lengths = np.array([c.length_mm if c else np.nan for c in found])
    truth = np.array([c.length_mm for c in whole])
    before = np.array([c.length_mm for c in jumps])
    assert np.abs(before / truth - 1).max() > 0.07
    assert np.abs(lengths / truth - 1).max() < 0.01
    areas = np.array([c.area_mm2 if c else np.nan for c in found])
    np.testing.assert_allclose(areas, [c.area_mm2 for c in jumps], rtol=0.005)


def test_a_base_that_is_short_in_every_other_frame_is_one_of_the_two() -> None:
    """The median of as many on both sides lies between them, far from all."""
    whole = [contour for contour in _beat() if contour]
    found = steady_base([_walled(c) if place % 2 else c for place, c in enumerate(whole)])
    lengths = np.array([c.length_mm if c else np.nan for c in found])
    assert np.ptp(lengths / [c.length_mm for c in whole]) < 0.015


def test_landmarks_keep_their_base_and_gaps_stay_gaps() -> None:
    whole = [contour for contour in _beat() if contour]
    jumps = [_walled(c) if place == 5 else c for place, c in enumerate(whole)]
    sure = [with_noise(contour, 1.0) for contour in jumps]
    assert steady_base(sure) == sure
    holed = [None if place == 9 else contour for place, contour in enumerate(jumps)]
    found = steady_base(holed)
    assert found[9] is None
    assert found[5] is not jumps[5]
    assert found[6] is jumps[6]


def test_a_few_stills_are_left_as_they_are() -> None:
    whole = [contour for contour in _beat() if contour]
    few = [whole[0], _walled(whole[3]), whole[9]]
    assert steady_base(few) == few


def test_of_two_bases_that_are_equally_frequent_one_is_taken() -> None:
    jumps = [_walled(c) if place % 2 else c for place, c in enumerate(_beat())]
    whole = [_walled(contour).length_mm for contour in _beat()]
    found = [contour.length_mm for contour in steady_base(jumps) if contour is not None]
    assert len(found) == len(jumps)
    assert np.ptp(np.divide(found, whole)) < 0.05
