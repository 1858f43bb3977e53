"""Patient-bootstrap intervals: they hold the figure and pair and count patients."""

from collections.abc import Sequence

import numpy as np
import pytest

from aggregator.benchmark.intervals import final_interval, gain_interval
from aggregator.benchmark.result import FinalClips, MethodResult, StageResult
from shared.errors import Code, EchoFedError

NUM = 60
GENERATOR = np.random.default_rng(0)
TRUE = GENERATOR.integers(2, size=NUM)
RIGHT = GENERATOR.random(NUM) < 0.8


def told_by(is_right: Sequence[bool], patients: Sequence[int] = range(NUM)) -> MethodResult:
    """A method that is right on some clips of one dataset."""
    told = np.where(is_right, TRUE, 1 - TRUE)
    clips = FinalClips(
        dataset="north/echo",
        labels=("A4C", "PLAX"),
        label_views=(("A4C",), ("PLAX",)),
        patients=tuple(patients),
        true=tuple(TRUE.tolist()),
        told=tuple(told.tolist()),
        certainty=(1.0,) * NUM,
        calibration_error=0.0,
        calibration_expected=0.0,
    )
    stage = StageResult("some", 1, 0.0, 0.0, (), (clips,))
    return MethodResult("some", False, ("north/echo",), (stage,))


def test_the_figure_is_that_of_all_clips_and_lies_in_its_interval() -> None:
    found = final_interval([told_by(RIGHT)], "accuracy")
    assert found.value == pytest.approx(RIGHT.mean())
    assert found.low < found.value < found.high


def test_an_interval_of_independent_clips_is_about_the_binomial_one() -> None:
    found = final_interval([told_by(RIGHT)], "accuracy")
    deviation = np.sqrt(RIGHT.mean() * (1 - RIGHT.mean()) / NUM)
    # the ends of 1000 resamples are known to a tenth, and steps of 1 / 60 coarsen them
    assert (found.high - found.low) / (2 * 1.96 * deviation) == pytest.approx(1.0, abs=0.15)


def test_clips_of_one_patient_that_are_alike_make_the_interval_wider() -> None:
    is_right = np.repeat([True, True, False, True, False, True], NUM // 6)
    alike = final_interval([told_by(is_right, np.repeat(range(6), NUM // 6).tolist())], "accuracy")
    apart = final_interval([told_by(is_right)], "accuracy")
    assert alike.high - alike.low > 2 * (apart.high - apart.low)


def test_a_method_gains_nothing_on_itself() -> None:
    method = told_by(RIGHT)
    found = gain_interval([(method, method)], "macro_f1")
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


def test_a_paired_gain_is_tighter_than_two_figures_apart() -> None:
    better = RIGHT.copy()
    better[np.flatnonzero(~RIGHT)[:3]] = True
    gain = gain_interval([(told_by(better), told_by(RIGHT))], "accuracy")
    apart = final_interval([told_by(better)], "accuracy")
    assert gain.value == pytest.approx(3 / NUM)
    assert gain.low >= 0.0
    assert gain.high - gain.low < apart.high - apart.low


def test_more_streams_make_the_interval_tighter() -> None:
    one = final_interval([told_by(RIGHT)], "accuracy")
    four = final_interval([told_by(RIGHT)] * 4, "accuracy")
    assert four.value == pytest.approx(one.value)
    assert (four.high - four.low) / (one.high - one.low) == pytest.approx(0.5, abs=0.1)


def test_streams_that_share_patients_make_no_tighter_interval() -> None:
    one = final_interval([told_by(RIGHT)], "accuracy")
    four = final_interval([told_by(RIGHT)] * 4, "accuracy", share_patients=True)
    assert four.value == pytest.approx(one.value)
    assert (four.high - four.low) / (one.high - one.low) == pytest.approx(1.0, abs=0.1)


def test_a_recall_of_one_dataset_has_an_interval() -> None:
    found = final_interval([told_by(RIGHT)], "recall PLAX", dataset="north/echo")
    assert found.value == pytest.approx(RIGHT[TRUE == 1].mean())


def test_a_figure_that_nobody_has_is_refused() -> None:
    with pytest.raises(EchoFedError) as caught:
        final_interval([told_by(RIGHT)], "recall A2C")
    assert caught.value.code == Code.NAME_UNKNOWN
