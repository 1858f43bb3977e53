"""FeCAM: a Gaussian per view with a covariance of its own, shrunk and normalised.

Reference: Goswami et al. 2023 (arXiv 2309.14062): Tukey's power transform, shrinkage by the mean
variance and the mean covariance, normalisation to correlations, Mahalanobis distance. Departures:
transformed columns are standardised, so that experts of any scale fit; a label of several views
counts in equal shares; the shrinkage is tuned.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular

from aggregator.benchmark.lessons import Columns, arrange_columns, arrange_lessons
from aggregator.benchmark.stage import Stage, Teller
from aggregator.benchmark.tuning import ScoreTeller, choose_teller
from aggregator.fusion.rows import held_out_rows
from aggregator.joined_rows import DatasetRows

SHRINKAGES = (0.1, 0.3, 1.0, 3.0, 10.0)
"""Tried for gamma 1 and gamma 2 of the paper alike, which are 1 there."""
TUKEY = 0.5  # the paper's lambda
_LEAST_VARIANCE = 1e-3  # of standardised columns; keeps views of one row harmless


@dataclass(frozen=True, slots=True, eq=False)
class ViewGaussian:
    """Rows of one view, which is a column of the union."""

    view: int
    mean_D: NDArray[np.float64]
    covariance_DD: NDArray[np.float64]


def fit_fecam(stage: Stage) -> Teller:
    """Try every shrinkage."""
    columns = arrange_columns(stage, power=TUKEY)
    lessons = arrange_lessons(stage, columns)
    gaussians = describe_views(
        np.concatenate([lesson.columns_ND for lesson in lessons]),
        np.concatenate([lesson.share_NV for lesson in lessons]),
    )
    tried = (_teller(columns, gaussians, shrinkage) for shrinkage in SHRINKAGES)
    return choose_teller(tried, held_out_rows(stage.joined))


def describe_views(
    columns_ND: NDArray[np.float64], share_NV: NDArray[np.float64]
) -> list[ViewGaussian]:
    """Mean and covariance of the rows of each view that has some."""
    gaussians = []
    for view in np.flatnonzero(share_NV.sum(axis=0)).tolist():
        in_view_N = share_NV[:, view] > 0
        share_M, rows_MD = share_NV[in_view_N, view], columns_ND[in_view_N]
        mean_D = share_M @ rows_MD / share_M.sum()
        gaps_MD = rows_MD - mean_D
        covariance_DD = (gaps_MD * share_M[:, None]).T @ gaps_MD / share_M.sum()
        gaussians.append(ViewGaussian(view, mean_D, covariance_DD))
    return gaussians


def shrink_and_normalise(
    covariance_DD: NDArray[np.float64], shrinkage: float
) -> NDArray[np.float64]:
    """Add the mean variance to variances, the mean covariance to the others; then correlations."""
    width = len(covariance_DD)
    variance = np.trace(covariance_DD) / width
    others = max(width * (width - 1), 1)
    covariance = (covariance_DD.sum() - np.trace(covariance_DD)) / others
    shrunk_DD = covariance_DD + shrinkage * covariance
    shrunk_DD[np.diag_indices(width)] += shrinkage * (variance - covariance) + _LEAST_VARIANCE
    deviation_D = np.sqrt(np.diagonal(shrunk_DD))
    normalised_DD: NDArray[np.float64] = shrunk_DD / np.outer(deviation_D, deviation_D)
    return normalised_DD


def squared_distances(
    columns_ND: NDArray[np.float64], gaussian: ViewGaussian, shrinkage: float
) -> NDArray[np.float64]:
    """Mahalanobis distances (N), squared, by the shrunk and normalised covariance."""
    root_DD = cholesky(shrink_and_normalise(gaussian.covariance_DD, shrinkage), lower=True)
    white_DN = solve_triangular(root_DD, (columns_ND - gaussian.mean_D).T, lower=True)
    distances_N: NDArray[np.float64] = np.square(white_DN).sum(axis=0)
    return distances_N


def _teller(columns: Columns, gaussians: Sequence[ViewGaussian], shrinkage: float) -> ScoreTeller:
    has_rows_V = np.zeros(len(columns.space.views), dtype=np.bool_)
    has_rows_V[[gaussian.view for gaussian in gaussians]] = True

    def scores(rows: DatasetRows) -> NDArray[np.float64]:
        columns_ND = columns.of(rows)
        scores_NV = np.zeros((len(columns_ND), len(has_rows_V)))
        for gaussian in gaussians:
            scores_NV[:, gaussian.view] = -0.5 * squared_distances(columns_ND, gaussian, shrinkage)
        return scores_NV

    return ScoreTeller(columns.space.views, scores, has_rows_V)
