"""The threshold of abstention is the asked quantile of what validation clips are told."""

import numpy as np
import pytest

from aggregator.feature_bank import JoinedRows, select_rows
from aggregator.fusion.calibrate import abstain_threshold
from aggregator.fusion.evaluate import fuse_rows
from shared.metrics import by_clip
from shared.models.fusion import ScoreFusion


@pytest.mark.parametrize("quantile", [0.0, 0.1, 0.5])
def test_the_asked_share_of_validation_clips_lies_below(
    joined: JoinedRows, quantile: float
) -> None:
    fusion = ScoreFusion(joined.blocks, "discrepancy", seed=1)
    threshold = abstain_threshold(fusion, joined.datasets, quantile)
    shares = []
    for rows in joined.datasets:
        held_out = select_rows(rows, rows.split_N == 1)
        told = fuse_rows(fusion, held_out).log_probabilities_NV
        means, _ = by_clip(told, held_out.label_N, held_out.clip_N)
        highest = np.exp(means.max(axis=1)) / np.exp(means).sum(axis=1)
        shares.append(np.mean(highest < threshold - 1e-9))
    assert np.mean(shares) == pytest.approx(quantile, abs=0.03)


def test_without_validation_clips_nothing_abstains(joined: JoinedRows) -> None:
    fusion = ScoreFusion(joined.blocks, "sum")
    train_only = [select_rows(rows, rows.split_N == 0) for rows in joined.datasets]
    assert abstain_threshold(fusion, train_only, 0.1) == 0.0
