"""What validation rows set after training: temperature, and from where on there are verdicts."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from aggregator.fusion.evaluate import fuse_rows
from aggregator.joined_rows import DatasetRows, select_rows
from shared.echo.label_sets import possible_views
from shared.echo.manifest import SPLITS
from shared.metrics import by_clip, vocabulary_log_probabilities
from shared.models.fusion_weights import FusionModel

_LOG_TEMPERATURES = (-6.0, 4.0)  # natural logarithms; least-squares scores lie within a unit


def best_temperature(
    tell: Callable[[float], Sequence[NDArray[np.float64]]],
    held_out: Sequence[DatasetRows],
    views: Sequence[str],
) -> tuple[float, float]:
    """The temperature at which labels of held-out rows are most probable; datasets weigh equally.

    Args:
        tell: temperature -> log-probabilities (N, V) of every dataset.
        held_out: labelled rows by dataset.
        views: names of the columns.

    Returns:
        The temperature, and the mean log-probability that labels then have.
    """
    covers = [possible_views(rows, views) for rows in held_out]

    def loss(logarithm: float) -> float:
        certainties = []
        told = tell(float(np.exp(logarithm)))
        for told_NV, covers_KV, rows in zip(told, covers, held_out, strict=True):
            told_NK = vocabulary_log_probabilities(told_NV, covers_KV)
            certainties.append(told_NK[np.arange(len(told_NK)), rows.label_N].mean())
        return -float(np.mean(certainties))

    found = minimize_scalar(loss, bounds=_LOG_TEMPERATURES, method="bounded")
    return float(np.exp(found.x)), -float(found.fun)


def abstain_threshold(
    fusion: FusionModel, datasets: Sequence[DatasetRows], quantile: float
) -> float:
    """The probability below which a share ``quantile`` of the validation clips lies.

    Datasets weigh equally. Clips without a label count too: abstention is about certainty, not
    about being right.
    """
    values, weights = [], []
    for rows in datasets:
        kept_N = (rows.split_N == SPLITS.index("val")) & (rows.pass_N == 0)
        if kept_N.any():
            highest_M = _highest_probability(fusion, select_rows(rows, kept_N))
            values.append(highest_M)
            weights.append(np.full(len(highest_M), 1.0 / len(highest_M)))
    if not values:
        return 0.0
    return float(
        np.quantile(
            np.concatenate(values),
            quantile,
            weights=np.concatenate(weights),
            method="inverted_cdf",
        )
    )


def _highest_probability(fusion: FusionModel, rows: DatasetRows) -> NDArray[np.float64]:
    """By clip, as a verdict computes it: mean log-probability over the frames, normalised."""
    told_NV = fuse_rows(fusion, rows).log_probabilities_NV
    means_MV, _ = by_clip(np.maximum(told_NV, -1e3), rows.label_N, rows.clip_N)
    highest_M: NDArray[np.float64] = 1.0 / np.exp(
        means_MV - means_MV.max(axis=1, keepdims=True)
    ).sum(axis=1)
    return highest_M
