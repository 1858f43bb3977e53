"""End diastole and end systole of one beat, several, part of one, and none."""

import numpy as np
import pytest

from shared.echo.contour import Contour
from shared.errors import Code, EchoFedError
from shared.measurement.cycle import area_curve_mm2, find_ed_es, measure_beat, volume_curve_ml
from shared.testing.contours import half_ellipse, scaled


def _beat(num: int = 30, share: float = 0.4) -> np.ndarray:
    """A volume curve from end diastole at 0 over end systole at a share of the beat."""
    phases = np.arange(num) / num
    squeeze = np.where(phases < share, phases / share, (1 - phases) / (1 - share))
    return 120 - 70 * np.sin(squeeze * np.pi / 2) ** 2


def test_one_beat_from_end_diastole() -> None:
    assert find_ed_es(_beat()) == (0, 12)


@pytest.mark.parametrize("start", range(0, 30, 3))
def test_a_beat_from_any_phase_has_the_same_instants(start: int) -> None:
    curve = np.tile(_beat(), 3)[start : start + 60]
    ed, es = find_ed_es(curve)
    assert (ed + start) % 30 == 0
    assert (es + start) % 30 == 12


def test_end_diastole_is_of_the_beat_that_end_systole_ends() -> None:
    # the beat before was fuller, the smallest volume is in the second
    first = 120 - (120 - _beat()) * 60 / 70
    first[:12] *= 1.15
    curve = np.concatenate([first, _beat()])
    assert curve.argmax() == 0
    assert find_ed_es(curve) == (30, 42)


def test_a_cine_that_begins_in_systole_takes_the_filling_after_it() -> None:
    curve = np.concatenate([_beat()[10:], _beat()[:1]])
    assert find_ed_es(curve) == (20, 2)


def test_a_cine_that_begins_just_after_end_diastole_takes_the_fuller_frame() -> None:
    curve = np.concatenate([_beat()[3:], _beat()[:1]])
    assert find_ed_es(curve) == (27, 9)


def test_one_bad_frame_does_not_decide() -> None:
    curve = _beat(60)
    curve[40] -= 20
    assert find_ed_es(curve) == (0, 24)


def test_two_stills_are_told_apart() -> None:
    assert find_ed_es(np.array([50.0, 120.0])) == (1, 0)
    assert find_ed_es(np.array([120.0, 50.0])) == (0, 1)


def test_curves_without_a_beat_are_refused() -> None:
    for curve in (np.array([]), np.array([100.0]), np.full(20, 80.0)):
        with pytest.raises(EchoFedError) as caught:
            find_ed_es(curve)
        assert caught.value.code is Code.FRAMES_MISSING
    with pytest.raises(EchoFedError) as caught:
        find_ed_es(np.array([100.0, np.nan, 50.0]))
    assert caught.value.code is Code.CONTOUR_INVALID


def _cine(view: str, *, start: int = 0) -> list[Contour]:
    still = half_ellipse(view=view, num_points=81)
    sizes = np.roll((_beat(24, 0.375) / 120) ** (1 / 3), -start)
    return [scaled(still, s, s, frame=100 + place) for place, s in enumerate(sizes)]


def test_curves_follow_the_size() -> None:
    cine = _cine("A4C")
    volumes = volume_curve_ml(cine)
    np.testing.assert_allclose(volumes / volumes[0], _beat(24, 0.375) / 120)
    areas = area_curve_mm2(cine)
    np.testing.assert_allclose(areas / areas[0], (_beat(24, 0.375) / 120) ** (2 / 3))


def test_a_beat_is_measured_at_each_views_own_instants() -> None:
    found = measure_beat([_cine("A4C"), _cine("A2C", start=5)])
    s = (50 / 120) ** (1 / 3)
    assert found["EF"].value == pytest.approx(100 * (1 - 50 / 120))
    assert found["GLS"].value == pytest.approx(100 * (s - 1))
    assert found["FAC A2C"].value == pytest.approx(100 * (1 - s**2))
    assert found["EF"].frames == (100, 119, 109, 104)
    assert set(found) == {"EDV", "ESV", "SV", "EF", "GLS", "MAPSE", "FAC A4C", "FAC A2C"}
