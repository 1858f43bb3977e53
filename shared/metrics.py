"""Scores of view probabilities in a dataset's own vocabulary, by frame and by clip."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CALIBRATION_BINS = 15  # as is customary since Guo et al. 2017 (arXiv 1706.04599)
_NUM_DRAWS = 200  # the expected error is then known to a hundredth of itself
_FLOOR = 1e-12  # probability of a view that an expert does not own; keeps logarithms finite


@dataclass(frozen=True, slots=True)
class Scores:
    """How well labels were told, at one level (frames or clips).

    Args:
        num: scored items.
        confusion: rows true, columns predicted, in the order of ``labels``.
        recall: by label.
        f1: by label.
    """

    num: int
    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    labels: tuple[str, ...]
    recall: dict[str, float]
    f1: dict[str, float]
    confusion: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far probabilities are from the share of right answers.

    Args:
        error: expected calibration error over bins of equal mass.
        expected: what that error is on average for so many items if every probability is true.
    """

    num: int
    error: float
    expected: float

    @property
    def excess(self) -> float:
        """The error beyond what so few items bring about; around 0 if calibrated."""
        return self.error - self.expected


def calibration(
    probability_N: NDArray[np.float64],
    is_right_N: NDArray[np.bool_],
    *,
    generator: np.random.Generator,
) -> Calibration:
    """Compare the probability of each item's answer with whether it was right.

    Args:
        probability_N: of the answer that was given.
        is_right_N: whether it was the label.
        generator: draws the outcomes of a calibrated model.
    """
    order_N = np.argsort(probability_N, kind="stable")
    sorted_N, num = probability_N[order_N], len(probability_N)
    edges = np.arange(min(CALIBRATION_BINS, num)) * num // min(CALIBRATION_BINS, num)
    drawn_SN = generator.random((_NUM_DRAWS, num)) < sorted_N
    outcome_SN = np.concatenate([is_right_N[order_N][None], drawn_SN]).astype(np.float64)
    errors_S = np.abs(np.add.reduceat(outcome_SN - sorted_N, edges, axis=1)).sum(axis=1) / num
    return Calibration(num, float(errors_S[0]), float(errors_S[1:].mean()))


def vocabulary_log_probabilities(
    log_probabilities_NV: NDArray[np.floating], covers_KV: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Sum the probabilities of the views that each label covers.

    Args:
        log_probabilities_NV: natural logarithms.
        covers_KV: the views that each label of the vocabulary may stand for.

    Returns:
        Natural logarithms (N, K); a label that covers no view gets the floor.
    """
    probabilities_NV = np.exp(np.asarray(log_probabilities_NV, dtype=np.float64))
    summed_NK = np.full((len(probabilities_NV), len(covers_KV)), _FLOOR)
    for column, covers_V in enumerate(covers_KV):
        if covers_V.any():
            summed_NK[:, column] = np.maximum(probabilities_NV[:, covers_V].sum(axis=1), _FLOOR)
    logarithms_NK: NDArray[np.float64] = np.log(summed_NK)
    return logarithms_NK


def score_labels(
    log_probabilities_NK: NDArray[np.float64], label_N: NDArray[np.integer], labels: Sequence[str]
) -> Scores:
    """Score the most probable label of each item against the truth.

    Macro figures run over the labels that occur in the truth.
    """
    num = len(labels)
    cell_N = label_N.astype(np.int64) * num + log_probabilities_NK.argmax(axis=1)
    counts = np.bincount(cell_N, minlength=num * num).reshape(num, num)
    true_K, told_K, hits_K = counts.sum(axis=1), counts.sum(axis=0), np.diagonal(counts)
    present = np.flatnonzero(true_K)
    recall_K = hits_K[present] / true_K[present]
    f1_K = 2 * hits_K[present] / (true_K + told_K)[present]
    return Scores(
        num=len(label_N),
        accuracy=float(hits_K.sum() / len(label_N)),
        balanced_accuracy=float(np.mean(recall_K)),
        macro_f1=float(np.mean(f1_K)),
        labels=tuple(labels),
        recall={
            labels[k]: float(value) for k, value in zip(present.tolist(), recall_K, strict=True)
        },
        f1={labels[k]: float(value) for k, value in zip(present.tolist(), f1_K, strict=True)},
        confusion=tuple(tuple(int(count) for count in row) for row in counts),
    )


def by_clip(
    log_probabilities_NK: NDArray[np.float64],
    label_N: NDArray[np.integer],
    clip_N: NDArray[np.integer],
) -> tuple[NDArray[np.float64], NDArray[np.integer]]:
    """Mean log-probability over the frames of each clip, and the clip's label."""
    clips, first, place_N = np.unique(clip_N, return_index=True, return_inverse=True)
    sums = np.zeros((len(clips), log_probabilities_NK.shape[1]))
    np.add.at(sums, place_N, log_probabilities_NK)
    return sums / np.bincount(place_N)[:, None], label_N[first]
