"""Methods that take rows as they come and keep sums: streaming LDA and recursive ridge regression.

References: SLDA (Hayes and Kanan 2020, arXiv 1909.01520); ACIL (Zhuang et al. 2022, arXiv
2205.14922) and its federated form AFL (He et al. 2025, arXiv 2405.16240). Both work in a fixed
space: the columns of all experts of the stage, for which an added expert looks once more at every
dataset. A label of several views counts in equal shares.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve

from aggregator.benchmark.lessons import Columns, Lesson, arrange_columns, arrange_lessons
from aggregator.benchmark.stage import Stage, Teller
from aggregator.benchmark.tuning import ScoreTeller, choose_teller
from aggregator.fusion.analytic import RIDGES
from aggregator.fusion.rows import held_out_rows

SHRINKAGES = (1e-4, 1e-3, 1e-2, 1e-1, 0.5)  # the first is the paper's
_AT_A_TIME = 512  # rows; a larger matrix to invert would cost more than it saves


@dataclass(frozen=True, slots=True, eq=False)
class RunningMoments:
    """What streaming LDA keeps: a mean per view and one covariance of all rows about them.

    Args:
        num_V: rows of each view, in shares.
    """

    num_V: NDArray[np.float64]
    mean_VD: NDArray[np.float64]
    covariance_DD: NDArray[np.float64]


def fit_slda(stage: Stage) -> Teller:
    """Streaming LDA; the shrinkage of the covariance is tuned."""
    columns = arrange_columns(stage)
    lessons = arrange_lessons(stage, columns)
    moments = blank_moments(lessons[0])
    for lesson in lessons:
        moments = stream_moments(moments, lesson.columns_ND, lesson.share_NV)
    tried = (_discriminant(columns, moments, shrinkage) for shrinkage in SHRINKAGES)
    return choose_teller(tried, held_out_rows(stage.joined))


def fit_recursive_ridge(stage: Stage) -> Teller:
    """Recursive least squares; the ridge, in units of a dataset's sum of squares, is tuned."""
    columns = arrange_columns(stage)
    lessons = arrange_lessons(stage, columns)
    tried = (_ridge_teller(columns, lessons, ridge) for ridge in RIDGES)
    return choose_teller(tried, held_out_rows(stage.joined))


def blank_moments(lesson: Lesson) -> RunningMoments:
    """Nothing seen yet."""
    num, width = lesson.share_NV.shape[1], lesson.columns_ND.shape[1]
    return RunningMoments(np.zeros(num), np.zeros((num, width)), np.zeros((width, width)))


def stream_moments(
    moments: RunningMoments, columns_ND: NDArray[np.float64], share_NV: NDArray[np.float64]
) -> RunningMoments:
    """Take rows one by one.

    A row x of view y is the (t + 1)-th: ``d = x - mean_y``, then ``S <- (t S + t / (t + 1) d d') /
    (t + 1)`` and ``mean_y`` moves to the mean with x. The products are summed in one go at the end,
    which is the same.
    """
    num_V, mean_VD = moments.num_V.copy(), moments.mean_VD.copy()
    total = num_V.sum()
    before, gaps, weights = total, [], []
    for row_D, share_V in zip(columns_ND, share_NV, strict=True):
        for view in np.flatnonzero(share_V):
            share = share_V[view]
            gaps.append(row_D - mean_VD[view])
            weights.append(share * total / (total + share))
            total += share
            num_V[view] += share
            mean_VD[view] += share / num_V[view] * gaps[-1]
    gaps_MD = np.stack(gaps)
    added_DD = gaps_MD.T @ (gaps_MD * np.array(weights)[:, None])
    return RunningMoments(num_V, mean_VD, (before * moments.covariance_DD + added_DD) / total)


@dataclass(frozen=True, slots=True, eq=False)
class RecursiveRidge:
    """The regression so far: the inverse of the penalised Gram matrix, and the weights.

    Column 0 of the rows is 1; it is penalised like all others.
    """

    inverse_DD: NDArray[np.float64]
    weight_DV: NDArray[np.float64]


def blank_ridge(width: int, num_views: int, ridge: float) -> RecursiveRidge:
    """No row yet."""
    return RecursiveRidge(np.eye(width) / ridge, np.zeros((width, num_views)))


def stream_ridge(
    known: RecursiveRidge, columns_ND: NDArray[np.float64], asked_NV: NDArray[np.float64]
) -> RecursiveRidge:
    """Take some rows and forget them: exactly the regression of all rows so far.

    Woodbury's identity: ``R' = R - R X' (1 + X R X')^-1 X R`` and ``W' = W + R' X' (Y - X W)``.
    """
    mapped_DN = known.inverse_DD @ columns_ND.T
    inner_NN = columns_ND @ mapped_DN
    inner_NN[np.diag_indices_from(inner_NN)] += 1.0
    inverse_DD = known.inverse_DD - mapped_DN @ solve(inner_NN, mapped_DN.T, assume_a="pos")
    missing_NV = asked_NV - columns_ND @ known.weight_DV
    return RecursiveRidge(inverse_DD, known.weight_DV + inverse_DD @ (columns_ND.T @ missing_NV))


def _discriminant(columns: Columns, moments: RunningMoments, shrinkage: float) -> ScoreTeller:
    shrunk_DD = (1.0 - shrinkage) * moments.covariance_DD
    shrunk_DD[np.diag_indices_from(shrunk_DD)] += shrinkage
    weight_DV = cho_solve(cho_factor(shrunk_DD), moments.mean_VD.T)
    bias_V = -0.5 * (moments.mean_VD.T * weight_DV).sum(axis=0)
    return ScoreTeller(
        columns.space.views,
        lambda rows: columns.of(rows) @ weight_DV + bias_V,
        moments.num_V > 0,
    )


def _ridge_teller(columns: Columns, lessons: Sequence[Lesson], ridge: float) -> ScoreTeller:
    """Datasets weigh equally: a row counts one over the number of rows of its dataset."""
    width, num_views = lessons[0].columns_ND.shape[1] + 1, lessons[0].share_NV.shape[1]
    known = blank_ridge(width, num_views, ridge)
    for lesson in lessons:
        root = 1.0 / np.sqrt(len(lesson.share_NV))
        rows_ND = np.column_stack([np.ones(len(lesson.share_NV)), lesson.columns_ND])
        for start in range(0, len(rows_ND), _AT_A_TIME):
            part = slice(start, start + _AT_A_TIME)
            known = stream_ridge(known, rows_ND[part] * root, lesson.share_NV[part] * root)
    bias_V, weight_DV = known.weight_DV[0], known.weight_DV[1:]
    return ScoreTeller(
        columns.space.views,
        lambda rows: columns.of(rows) @ weight_DV + bias_V,
        lessons[-1].knows_V,
    )
