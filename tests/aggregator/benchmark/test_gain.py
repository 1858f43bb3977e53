"""The gain: exact where there is nothing to draw, narrower over seeds that test other patients."""

import numpy as np
import pytest

from aggregator.benchmark.gain import Gain, patient_gain
from aggregator.benchmark.result import FinalClips


def clips_of(
    told: np.ndarray, true: np.ndarray, patients: np.ndarray, dataset: str = "north/echo"
) -> FinalClips:
    return FinalClips(
        dataset=dataset,
        labels=("a", "b"),
        label_views=(("A4C",), ("A2C",)),
        patients=tuple(patients.tolist()),
        true=tuple(true.tolist()),
        told=tuple(told.tolist()),
        certainty=(1.0,) * len(true),
        calibration_error=0.0,
        calibration_expected=0.0,
    )


TRUE = np.tile([0, 1], 30)
PATIENTS = np.repeat(np.arange(30), 2)
RIGHT = clips_of(TRUE, TRUE, PATIENTS)
WRONG = clips_of(1 - TRUE, TRUE, PATIENTS)


def noisy(seed: int) -> FinalClips:
    flipped = np.random.default_rng(seed).random(len(TRUE)) < 0.3
    return clips_of(np.where(flipped, 1 - TRUE, TRUE), TRUE, PATIENTS)


def gain_of(before: list[FinalClips], after: list[FinalClips], *, same: bool = False) -> Gain:
    found = patient_gain([[b] for b in before], [[a] for a in after], are_same_patients=same)
    assert found is not None
    return found


def test_a_method_gains_nothing_on_itself() -> None:
    assert gain_of([noisy(0)], [noisy(0)]) == Gain(0.0, 0.0, 0.0)


def test_all_right_over_all_wrong_is_one_whoever_is_drawn() -> None:
    assert gain_of([WRONG], [RIGHT]) == Gain(1.0, 1.0, 1.0)


def test_the_gain_turns_its_sign_with_the_methods() -> None:
    there, back = gain_of([noisy(0)], [RIGHT]), gain_of([RIGHT], [noisy(0)])
    assert there.mean == pytest.approx(-back.mean)
    assert there.low == pytest.approx(-back.high)
    assert back.low < back.mean < back.high < 0


def test_other_patients_in_every_seed_narrow_the_interval_and_the_same_do_not() -> None:
    one = gain_of([noisy(0)], [RIGHT])
    apart, same = (gain_of([noisy(0)] * 9, [RIGHT] * 9, same=flag) for flag in (False, True))
    assert apart.mean == pytest.approx(one.mean) == pytest.approx(same.mean)
    assert same.high - same.low == pytest.approx(one.high - one.low, rel=0.15)
    assert apart.high - apart.low == pytest.approx((one.high - one.low) / 3, rel=0.15)


def test_clips_of_one_patient_are_drawn_together() -> None:
    """Ten clips that are told alike weigh like one: the interval is that of the patients."""
    fewer = noisy(0)
    more = clips_of(*(np.repeat(a, 10) for a in (np.array(fewer.told), TRUE, PATIENTS)))
    right = clips_of(*(np.repeat(a, 10) for a in (TRUE, TRUE, PATIENTS)))
    assert gain_of([more], [right]) == gain_of([fewer], [RIGHT])


def test_datasets_weigh_equally_and_only_common_ones_count() -> None:
    other = clips_of(TRUE[:10], TRUE[:10], PATIENTS[:10], "south/echo")
    found = patient_gain([[WRONG, other]], [[RIGHT, other]], are_same_patients=False)
    assert found == Gain(0.5, 0.5, 0.5)
    assert patient_gain([[WRONG]], [[other]], are_same_patients=False) is None
