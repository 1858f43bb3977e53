"""Local quadratics over time: exact where they must be, folded where beats repeat."""

import numpy as np
import pytest

from shared.measurement.local_fit import find_period, left_out, local_fit

TIMES = np.arange(60) * 30.0


def _beats(times: np.ndarray, period: float) -> np.ndarray:
    phase = 2 * np.pi * times / period
    return 100 + 30 * np.cos(phase) + 8 * np.sin(2 * phase)


def test_quadratics_come_through_unchanged_at_any_spacing() -> None:
    times = np.delete(TIMES, [3, 4, 17, 40])
    curve = 5 - 0.3 * times + 0.002 * times**2
    fit = local_fit(TIMES, times, 150.0, None)
    truth = 5 - 0.3 * TIMES + 0.002 * TIMES**2
    np.testing.assert_allclose(fit.weights_ST @ curve, truth, atol=1e-5)
    np.testing.assert_allclose(fit.kernel_ST.sum(axis=1), 1.0)
    assert fit.kernel_ST.min() >= 0


def test_gain_is_the_variance_that_noise_keeps() -> None:
    fit = local_fit(TIMES, TIMES, 150.0, None)
    noise = np.random.default_rng(0).normal(size=(60, 4000))
    np.testing.assert_allclose((fit.weights_ST @ noise).var(axis=1), fit.gain, rtol=0.12)
    assert 0.25 < fit.gain[10:-10].max() < 0.35


def test_folded_beats_share_their_noise() -> None:
    plain, folded = (local_fit(TIMES, TIMES, 150.0, period) for period in (None, 600.0))
    assert folded.gain.max() < 0.5 * plain.gain[10:-10].min()
    np.testing.assert_allclose(
        folded.weights_ST @ _beats(TIMES, 600.0), _beats(TIMES, 600.0), atol=1.5
    )


def test_a_value_left_out_is_told_by_the_others() -> None:
    fit = local_fit(TIMES, TIMES, 150.0, None)
    curve = _beats(TIMES, 800.0)
    place = 20
    others = np.delete(np.arange(60), place)
    alone = local_fit(TIMES[[place]], TIMES[others], 150.0, None).weights_ST @ curve[others]
    misses = left_out(curve[:, None], fit.weights_ST)
    assert misses[place, 0] == pytest.approx(curve[place] - alone[0], rel=1e-6)


@pytest.mark.parametrize("period", [560.0, 700.0, 990.0])
def test_the_beat_is_found_under_noise(period: float) -> None:
    curve = _beats(TIMES, period) + np.random.default_rng(1).normal(size=60) * 4
    found = find_period(curve, TIMES, 150.0, 300.0)
    assert found == pytest.approx(period, rel=0.02)


def test_no_beat_is_found_where_none_repeats() -> None:
    assert find_period(_beats(TIMES, 1500.0), TIMES, 150.0, 300.0) is None
    warped = _beats(TIMES * (1 + TIMES / 4000), 800.0)
    assert find_period(warped, TIMES, 150.0, 300.0) is None
    assert find_period(np.array([1.0, 2.0]), TIMES[:2], 150.0, 300.0) is None
