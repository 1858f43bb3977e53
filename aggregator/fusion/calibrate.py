"""From what probability on a fusion gives a verdict: a quantile over the validation clips."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aggregator.feature_bank import DatasetRows, select_rows
from aggregator.fusion.evaluate import fuse_rows
from shared.echo.manifest import SPLITS
from shared.metrics import by_clip
from shared.models.fusion_weights import FusionModel


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
