"""The threshold of abstention is the asked quantile; the temperature is the one labels ask for."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import log_softmax

from aggregator.fusion.calibrate import abstain_threshold, best_temperature
from aggregator.fusion.evaluate import fuse_rows
from aggregator.joined_rows import JoinedRows, select_rows
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


@pytest.mark.parametrize("stretch", [0.2, 3.0])
def test_the_temperature_undoes_a_stretch_of_true_logits(
    joined: JoinedRows, stretch: float
) -> None:
    """Labels are drawn from the probabilities, so the best temperature is the stretch."""
    north, generator = joined.datasets[0], np.random.default_rng(0)
    views, num = north.labels, 4000
    logits_NV = generator.normal(size=(num, len(views))) * 2
    drawn_N = (logits_NV + generator.gumbel(size=logits_NV.shape)).argmax(axis=1)
    rows = replace(north, label_N=drawn_N, label_views=tuple((view,) for view in views))
    found, certainty = best_temperature(
        lambda t: [log_softmax(stretch * logits_NV / t, axis=1)], [rows], views
    )
    assert found == pytest.approx(stretch, rel=0.1)  # four standard errors of 4000 draws
    assert certainty >= log_softmax(stretch * logits_NV, axis=1)[np.arange(num), drawn_N].mean()
