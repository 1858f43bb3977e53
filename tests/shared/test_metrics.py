"""Laws of the scores: vocabularies sum, wider labels never lose, clips average logarithms."""

from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, f1_score

from shared.metrics import by_clip, calibration, score_labels, vocabulary_log_probabilities

VIEWS = ("A4C", "PSAX-AV", "PSAX-PM")


def random_log_probabilities(seed: int, num: int = 50) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(size=(num, len(VIEWS)))
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def covers(*labels: Sequence[str]) -> np.ndarray:
    return np.array([[view in views for view in VIEWS] for views in labels])


def test_a_coarse_label_gets_the_sum_of_its_leaves(seed: int) -> None:
    log_NV = random_log_probabilities(seed)
    log_NK = vocabulary_log_probabilities(log_NV, covers(["A4C"], ["PSAX-AV", "PSAX-PM"]))
    assert np.exp(log_NK).sum(axis=1) == pytest.approx(np.ones(len(log_NV)), abs=1e-12)
    assert np.exp(log_NK[:, 1]) == pytest.approx(np.exp(log_NV[:, 1]) + np.exp(log_NV[:, 2]))


def test_a_wider_label_never_has_a_lower_probability(seed: int) -> None:
    log_NV = random_log_probabilities(seed)
    log_NK = vocabulary_log_probabilities(log_NV, covers(["PSAX-AV"], ["PSAX-AV", "A4C"]))
    assert (log_NK[:, 1] >= log_NK[:, 0]).all()


def test_a_label_without_a_view_in_the_union_is_never_chosen(seed: int) -> None:
    log_NK = vocabulary_log_probabilities(random_log_probabilities(seed), covers(["A4C"], []))
    assert (log_NK.argmax(axis=1) == 0).all()


def test_perfect_predictions_score_one_and_the_confusion_is_diagonal() -> None:
    label_N = np.array([0, 1, 2, 2])
    scores = score_labels(np.log(np.eye(3)[label_N] + 1e-9), label_N, ["a", "b", "c"])
    assert scores.macro_f1 == scores.accuracy == scores.balanced_accuracy == 1.0
    assert scores.confusion == ((1, 0, 0), (0, 1, 0), (0, 0, 2))


def test_macro_f1_weighs_labels_not_items() -> None:
    label_N = np.array([0] * 98 + [1] * 2)
    scores = score_labels(np.log(np.tile([0.9, 0.1], (100, 1))), label_N, ["many", "few"])
    assert scores.accuracy == pytest.approx(0.98)
    assert scores.macro_f1 == pytest.approx(0.5 * 2 * 98 / 198)


def test_scores_are_those_of_scikit_learn(seed: int) -> None:
    label_N = np.random.default_rng(seed).integers(0, 2, size=50)  # the third never occurs
    log_NV = random_log_probabilities(seed)
    told_N = log_NV.argmax(axis=1)
    scores = score_labels(log_NV, label_N, VIEWS)
    assert scores.confusion == tuple(
        map(tuple, confusion_matrix(label_N, told_N, labels=[0, 1, 2]).tolist())
    )
    f1_K = f1_score(label_N, told_N, labels=[0, 1], average=None)
    assert list(scores.f1.values()) == pytest.approx(list(f1_K))
    assert scores.macro_f1 == pytest.approx(f1_K.mean())


def test_a_clip_is_the_mean_log_probability_of_its_frames() -> None:
    log_NK = np.log(np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]]))
    means, labels = by_clip(log_NK, np.array([0, 0, 1]), np.array([7, 7, 3]))
    assert labels.tolist() == [1, 0]
    assert means[1] == pytest.approx(log_NK[:2].mean(axis=0))


def test_calibrated_probabilities_have_no_excess_error() -> None:
    generator = np.random.default_rng(0)
    excess = []
    for _ in range(50):
        probability_N = generator.beta(5, 1, size=300)
        is_right_N = generator.random(300) < probability_N
        excess.append(calibration(probability_N, is_right_N, generator=generator).excess)
    # the error of one set of 300 has a deviation of 0.01
    assert abs(np.mean(excess)) < 3 * 0.01 / np.sqrt(50)


def test_overconfidence_is_the_error_that_remains() -> None:
    generator = np.random.default_rng(0)
    is_right_N = generator.random(20_000) < 0.7
    found = calibration(np.full(20_000, 0.9), is_right_N, generator=generator)
    assert found.error == pytest.approx(0.2, abs=0.01)
    assert found.excess == pytest.approx(0.2, abs=0.02)


def test_fewer_items_have_a_larger_expected_error() -> None:
    expected = [
        calibration(
            np.full(num, 0.8), np.ones(num, bool), generator=np.random.default_rng(0)
        ).expected
        for num in (1, 30, 3000)
    ]
    assert expected == sorted(expected, reverse=True)
    # of one item: |1 - 0.8| in eight cases of ten, else 0.8
    assert expected[0] == pytest.approx(0.32, abs=0.1)


def test_bins_hold_equal_masses() -> None:
    """Right where the probability is high, wrong where it is low: no bin may mix the halves."""
    probability_N = np.repeat([0.2, 0.8], [70, 80])
    found = calibration(probability_N, probability_N > 0.5, generator=np.random.default_rng(0))
    assert found.error == pytest.approx(0.2)
