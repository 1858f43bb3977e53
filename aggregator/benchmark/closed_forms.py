"""The platform's closed forms beside the fused ridge, as methods of the benchmark."""

from aggregator.benchmark.stage import Stage, Teller
from aggregator.benchmark.tuning import head_teller
from aggregator.fusion.analytic import Fit, choose_head, fit_nearest_mean, fit_ridge
from aggregator.fusion.rows import held_out_rows
from aggregator.fusion.sums import FeatureSpace, sum_rows

RANDOM_PER_EXPERT = 500
"""Random features of RanPAC per expert; the paper takes 10,000 of one network."""


def fit_means(stage: Stage) -> Teller:
    """Nearest mean of standardised columns; nothing but the temperature is tuned."""
    return _fit(stage, fit_nearest_mean, FeatureSpace(stage.joined.blocks))


def fit_ranpac(stage: Stage) -> Teller:
    """RanPAC (McDonnell et al. 2023, arXiv 2307.02251): ridge on random features of each expert."""
    space = FeatureSpace(stage.joined.blocks, RANDOM_PER_EXPERT, stage.seed)
    return _fit(stage, fit_ridge, space)


def _fit(stage: Stage, fit: Fit, space: FeatureSpace) -> Teller:
    sums = [sum_rows(rows, space) for rows in stage.joined.datasets]
    head = choose_head(fit, sums, held_out_rows(stage.joined), space, balance=True)
    return head_teller(head)
