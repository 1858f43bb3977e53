"""Risk and coverage: the closed forms of a perfect, a reversed and an unknowing order."""

import numpy as np
import pytest

from aggregator.benchmark.selective import risk_coverage


def _is_right(num: int, num_wrong: int) -> np.ndarray:
    return np.arange(num) < num - num_wrong


@pytest.mark.parametrize(("num", "num_wrong"), [(10, 3), (50, 1), (7, 7), (5, 0)])
def test_a_perfect_order_has_the_least_area(num: int, num_wrong: int) -> None:
    curve = risk_coverage(-np.arange(num, dtype=float), _is_right(num, num_wrong))
    wrong = np.arange(1, num_wrong + 1)
    assert curve.area == pytest.approx((wrong / (num - num_wrong + wrong)).sum() / num)
    if num_wrong < num:
        assert curve.accuracy_at((num - num_wrong) / num) == 1.0
    assert curve.accuracy_at(1.0) == pytest.approx(1 - num_wrong / num)


def test_a_reversed_order_begins_with_errors_alone() -> None:
    curve = risk_coverage(np.arange(10.0), _is_right(10, 4))
    np.testing.assert_allclose(curve.risk_N[:4], 1.0)
    np.testing.assert_allclose(curve.risk_N[4:], 4 / np.arange(5, 11))


def test_equal_certainty_says_nothing_whatever_the_order_of_the_rows() -> None:
    is_right_N = _is_right(12, 5)
    for shuffled_N in (is_right_N, is_right_N[::-1]):
        curve = risk_coverage(np.full(12, 0.7), shuffled_N)
        np.testing.assert_allclose(curve.risk_N, 5 / 12)
        assert curve.area == pytest.approx(5 / 12)


def test_only_the_order_of_certainty_counts() -> None:
    generator = np.random.default_rng(0)
    certainty_N, is_right_N = generator.random(40), generator.random(40) < 0.6
    curve, bent = (risk_coverage(c, is_right_N) for c in (certainty_N, np.exp(5 * certainty_N)))
    np.testing.assert_array_equal(curve.risk_N, bent.risk_N)
    assert curve.coverage_N[-1] == 1.0
