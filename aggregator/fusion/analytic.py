"""Heads in closed form: ridge regression and discriminants from sums over rows, never from rows.

References: AFL (He et al. 2025, arXiv 2405.16240) for one round and exact equality with pooled
ridge regression; streaming LDA (Hayes and Kanan 2020, arXiv 1909.01520) for the discriminant;
RanPAC (McDonnell et al. 2023, arXiv 2307.02251) for random features. Departures: columns are
centred and scaled from the same sums, so one ridge fits backbones of any scale, and an expert that
did not see a dataset stands there at its mean over the others.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve
from scipy.special import log_softmax

from aggregator.fusion.baselines import LOG_FLOOR
from aggregator.fusion.calibrate import best_temperature
from aggregator.fusion.rows import held_out_rows
from aggregator.fusion.sums import FeatureSpace, RowSums, chunks, pool, space_of, sum_datasets
from aggregator.joined_rows import DatasetRows, JoinedRows

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Candidates, in units of each column's sum of squares."""


@dataclass(frozen=True, slots=True, eq=False)
class LinearHead:
    """A linear map from the space to the union views.

    Args:
        mean_D: subtracted from the columns.
        has_rows_V: views of which there were training rows; the others get the floor.
        temperature: scores are divided by it.
    """

    space: FeatureSpace
    weight_DV: NDArray[np.float64]
    mean_D: NDArray[np.float64]
    bias_V: NDArray[np.float64]
    has_rows_V: NDArray[np.bool_]
    temperature: float = 1.0

    def scores(self, rows: DatasetRows) -> NDArray[np.float64]:
        """Scores (N, V) before the temperature; an expert that saw nothing stands at its mean."""
        seen_D = self.space.spread(rows.available)
        scores_NV = np.empty((len(rows.label_N), len(self.bias_V)))
        for part in chunks(len(scores_NV)):
            columns_ND = self.space.columns([array[part] for array in rows.features])
            centred_ND = (columns_ND - self.mean_D) * seen_D
            scores_NV[part] = centred_ND @ self.weight_DV + self.bias_V
        return scores_NV

    def tell(self, rows: DatasetRows) -> NDArray[np.float64]:
        """Log-probabilities (N, V) over the union views."""
        return tell_scores(self.scores(rows), self.has_rows_V, self.temperature)


Fit = Callable[..., LinearHead]


def fit_ridge(
    sums: Sequence[RowSums], space: FeatureSpace, *, ridge: float, balance: bool
) -> LinearHead:
    """Ridge regression of the views on the columns, as if all rows lay in one place.

    A label of several views asks for an equal share of each. The penalty of a column is ``ridge``
    times its sum of squares about the mean; the intercept has none.

    Args:
        sums: one per dataset, in any order; to leave one out is never to have had it.
        space: what the sums were taken of.
        ridge: above 0.
        balance: give every dataset the same total weight.

    Raises:
        EchoFedError: FRAMES_MISSING where fewer than two views have rows.
    """
    pooled = pool(sums, space, balance=balance)
    scale_D = _inverse_root(np.diagonal(pooled.scatter_DD), pooled.varies_D)
    unit_DD = pooled.scatter_DD * np.outer(scale_D, scale_D)
    moment_DV = pooled.moment_DV * scale_D[:, None]
    weight_DV = _solve(unit_DD, ridge, moment_DV) * scale_D[:, None]
    share_V = pooled.num_V / pooled.num_V.sum()
    return LinearHead(space, weight_DV, pooled.mean_D, share_V, pooled.num_V > 0)


def fit_discriminant(
    sums: Sequence[RowSums], space: FeatureSpace, *, ridge: float, balance: bool
) -> LinearHead:
    """Linear discriminant: one covariance within views for all of them, no prior.

    The correlations between columns shrink by 1 / (1 + ridge); at infinity this is the nearest
    mean of standardised columns. Arguments and errors are those of ``fit_ridge``.
    """
    pooled = pool(sums, space, balance=balance)
    has_V = pooled.num_V > 0
    centre_DV = pooled.moment_DV / np.where(has_V, pooled.num_V, 1.0)
    within_DD = pooled.scatter_DD - centre_DV * pooled.num_V @ centre_DV.T
    within_DD /= pooled.num_V.sum()
    scale_D = _inverse_root(np.diagonal(within_DD), pooled.varies_D)
    centre_DV *= scale_D[:, None]
    weight_DV = _solve(within_DD * np.outer(scale_D, scale_D), ridge, centre_DV) * (1.0 + ridge)
    bias_V = -0.5 * (centre_DV * weight_DV).sum(axis=0)
    return LinearHead(space, weight_DV * scale_D[:, None], pooled.mean_D, bias_V, has_V)


def fit_nearest_mean(
    sums: Sequence[RowSums], space: FeatureSpace, *, ridge: float, balance: bool
) -> LinearHead:
    """Nearest mean of standardised columns; no ridge changes it."""
    del ridge
    return fit_discriminant(sums, space, ridge=1e9, balance=balance)


CLOSED_FORMS: dict[str, Fit] = {
    "linear discriminant": fit_discriminant,
    "nearest mean": fit_nearest_mean,
}


def fit_heads(
    joined: JoinedRows, *, balance: bool, num_random: int = 0, seed: int = 0
) -> dict[str, LinearHead]:
    """Fit every closed form, ridge and temperature chosen by the validation rows.

    Args:
        joined: rows of all datasets.
        balance: give every dataset the same total weight.
        num_random: random features per expert, 0 for the features themselves.
        seed: of the random features.

    Raises:
        EchoFedError: FRAMES_MISSING where training or validation has no labelled row.
    """
    space = FeatureSpace(joined.blocks, num_random, seed) if num_random else space_of(joined)
    sums = sum_datasets(joined, space)
    held_out = held_out_rows(joined)
    return {
        name: choose_head(fit, sums, held_out, space, balance=balance)
        for name, fit in CLOSED_FORMS.items()
    }


def choose_head(
    fit: Fit,
    sums: Sequence[RowSums],
    held_out: Sequence[DatasetRows],
    space: FeatureSpace,
    *,
    balance: bool,
    again: Sequence[RowSums] | None = None,
) -> LinearHead:
    """The head of the ridge and temperature that the labels of held-out rows agree with most.

    Args:
        fit: the closed form.
        sums: of training rows.
        held_out: labelled rows by dataset.
        space: what the sums were taken of.
        balance: give every dataset the same total weight.
        again: sums to fit on once more, at the ridge and temperature that were chosen.
    """
    tried = {
        ridge: _with_temperature(fit(sums, space, ridge=ridge, balance=balance), held_out)
        for ridge in RIDGES
    }
    best = max(tried, key=lambda ridge: tried[ridge][0])
    head = tried[best][1]
    if again is None:
        return head
    return replace(fit(again, space, ridge=best, balance=balance), temperature=head.temperature)


def _solve(
    unit_DD: NDArray[np.float64], ridge: float, target_DV: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Solve with the ridge on the diagonal, which keeps constant and repeated columns harmless."""
    penalised_DD = unit_DD.copy()
    penalised_DD[np.diag_indices_from(penalised_DD)] += ridge
    solved_DV: NDArray[np.float64] = solve(penalised_DD, target_DV, assume_a="pos")
    return solved_DV


def _inverse_root(
    square_D: NDArray[np.float64], varies_D: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """1 / sqrt; 0 for columns that do not vary."""
    varies_D = varies_D & (square_D > 0)
    return np.where(varies_D, 1.0 / np.sqrt(np.where(varies_D, square_D, 1.0)), 0.0)


def _with_temperature(
    head: LinearHead, held_out: Sequence[DatasetRows]
) -> tuple[float, LinearHead]:
    """The head at its best temperature, and the mean log-probability that it gives to labels."""
    scores = [head.scores(rows) for rows in held_out]
    temperature, certainty = fit_temperature(scores, held_out, head.space.views, head.has_rows_V)
    return certainty, replace(head, temperature=temperature)


def fit_temperature(
    scores: Sequence[NDArray[np.float64]],
    held_out: Sequence[DatasetRows],
    views: Sequence[str],
    has_rows_V: NDArray[np.bool_],
) -> tuple[float, float]:
    """The temperature at which labels are most probable, and their mean log-probability then.

    Args:
        scores: of each held-out dataset's rows (N, V).
        held_out: labelled rows; datasets weigh equally.
        views: names of the columns.
        has_rows_V: views of which there were training rows.
    """

    def tell(temperature: float) -> list[NDArray[np.float64]]:
        return [tell_scores(scores_NV, has_rows_V, temperature) for scores_NV in scores]

    return best_temperature(tell, held_out, views)


def tell_scores(
    scores_NV: NDArray[np.float64], has_rows_V: NDArray[np.bool_], temperature: float
) -> NDArray[np.float64]:
    """Log-probabilities (N, V) of scores; views without training rows get the floor."""
    told_NV = np.full(scores_NV.shape, LOG_FLOOR)
    told_NV[:, has_rows_V] = log_softmax(scores_NV[:, has_rows_V] / temperature, axis=1)
    return told_NV
