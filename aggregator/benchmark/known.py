"""Methods that the platform has already, and the oracle, as methods of the benchmark."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aggregator.benchmark.stage import Stage, Teller
from aggregator.benchmark.tuning import head_teller
from aggregator.feature_bank import DatasetRows
from aggregator.fusion.analytic import Fit, choose_head, fit_nearest_mean, fit_ridge
from aggregator.fusion.baselines import tell_alone
from aggregator.fusion.rows import held_out_rows
from aggregator.fusion.sums import FeatureSpace, sum_rows
from shared.models.fused import union_views

RANDOM_PER_EXPERT = 500
"""Random features of RanPAC per expert; the paper takes 10,000 of one network."""


def fit_means(stage: Stage) -> Teller:
    """Nearest mean of standardised columns; nothing but the temperature is tuned."""
    return _fit(stage, fit_nearest_mean, FeatureSpace(stage.joined.blocks))


def fit_ranpac(stage: Stage) -> Teller:
    """RanPAC (McDonnell et al. 2023, arXiv 2307.02251): ridge on random features of each expert."""
    space = FeatureSpace(stage.joined.blocks, RANDOM_PER_EXPERT, stage.seed)
    return _fit(stage, fit_ridge, space)


@dataclass(frozen=True, slots=True, eq=False)
class OracleTeller:
    """Asks the expert of the very dataset that a row is from."""

    stage: Stage

    @property
    def views(self) -> tuple[str, ...]:
        """Union views."""
        return union_views(self.stage.joined.blocks)

    def tell(self, rows: DatasetRows) -> NDArray[np.float64]:
        """Log-probabilities (N, V); not a number for a dataset whose expert is not there."""
        home = self.stage.homes.get(rows.name)
        if home is None:
            return np.full((len(rows.label_N), len(self.views)), np.nan)
        return tell_alone(rows, self.stage.joined.blocks, self.views, expert=home)


def ask_own_expert(stage: Stage) -> Teller:
    """The oracle: told which dataset each row is from, it needs no fusion."""
    return OracleTeller(stage)


def _fit(stage: Stage, fit: Fit, space: FeatureSpace) -> Teller:
    sums = [sum_rows(rows, space) for rows in stage.joined.datasets]
    head = choose_head(fit, sums, held_out_rows(stage.joined), space, balance=True)
    return head_teller(head)
