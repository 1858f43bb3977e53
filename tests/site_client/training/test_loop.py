import numpy as np
import pytest

from site_client.training.batches import split_order
from site_client.training.checkpoint import Course, Validation
from site_client.training.loop import Plan, learning_rate


@pytest.mark.parametrize(
    ("num", "sizes"), [(64, [32, 32]), (65, [32, 33]), (66, [32, 32, 2]), (1, [1])]
)
def test_single_frame_left_over_joins_the_batch_before(num: int, sizes: list[int]) -> None:
    parts = split_order(np.arange(num), 32)
    assert [len(part) for part in parts] == sizes
    assert np.array_equal(np.concatenate(parts), np.arange(num))


def test_later_of_equal_validations_is_kept() -> None:
    course = Course()
    for score, loss in ((0.5, 1.0), (0.8, 0.7), (0.8, 0.9), (0.8, 0.7), (0.7, 0.1)):
        course = course.advance(Validation(score, loss), seconds=1.0)
    assert (course.best_epoch, course.best_score, course.best_loss) == (4, 0.8, 0.7)
    assert course.epoch == 5
    assert course.seconds == 5.0


def test_one_cycle_starts_low_peaks_and_ends_low() -> None:
    plan = Plan(10, 10, 3, 1e-3, "onecycle", 0)
    rates = [learning_rate(plan, done) for done in range(101)]
    assert max(rates) == pytest.approx(1e-3)
    assert rates.index(max(rates)) == 30
    assert rates[0] == pytest.approx(rates[-1])
    assert rates[0] == pytest.approx(1e-3 / 25)


def test_constant_rate_is_constant() -> None:
    plan = Plan(10, 10, 3, 1e-3, "constant", 0)
    assert {learning_rate(plan, done) for done in range(100)} == {1e-3}
