"""The fitted union head: it is the ridge head, and its id scores are honest."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from aggregator.fusion.analytic import RIDGES, choose_head, fit_ridge
from aggregator.fusion.evaluate import fuse_rows, is_scored, macro_score, score_rows
from aggregator.fusion.fit import fit_competence, fit_union_head
from aggregator.fusion.rows import held_out_rows
from aggregator.fusion.sums import FeatureSpace, sum_rows
from aggregator.joined_rows import DatasetRows, JoinedRows, select_rows
from shared.models.union_head import UnionHead


def fitted(joined: JoinedRows) -> UnionHead:
    return fit_union_head(joined, held_out_rows(joined), balance=True)


@pytest.mark.parametrize("kind", ["joined", "incomplete"])
def test_the_fusion_says_what_the_ridge_head_says(
    kind: str, request: pytest.FixtureRequest
) -> None:
    joined: JoinedRows = request.getfixturevalue(kind)
    space = FeatureSpace(joined.blocks)
    sums = [sum_rows(rows, space) for rows in joined.datasets]
    head = choose_head(fit_ridge, sums, held_out_rows(joined), space, balance=True)
    fusion = fitted(joined)
    for rows in joined.datasets:
        np.testing.assert_allclose(
            fuse_rows(fusion, rows).log_probabilities_NV, head.tell(rows), atol=1e-3
        )


def test_id_scores_say_how_often_an_expert_is_right(joined: JoinedRows) -> None:
    """On test rows, over all datasets: mean id score against the share of right answers."""
    fusion = fitted(joined)
    for place, block in enumerate(joined.blocks):
        promised, kept = [], []
        for rows in joined.datasets:
            test = select_rows(rows, is_scored(rows, "test"))
            views = [block.views[column] for column in test.logits[place].argmax(axis=1)]
            labels = [rows.labels[label] for label in test.label_N]
            promised.append(fuse_rows(fusion, test).id_scores_NE[:, place].mean())
            kept.append(np.mean([one == other for one, other in zip(views, labels, strict=True)]))
        # 60 test rows of 30 clips a dataset: three standard errors of a share of 0.5 are 0.27
        assert np.abs(np.array(promised) - kept).max() < 0.27
        assert np.argmax(promised) == place == np.argmax(kept)


def test_an_expert_that_is_always_right_gets_finite_odds(joined: JoinedRows) -> None:
    rows = held_out_rows(joined)[0]
    sure = np.full_like(rows.logits[0], -9.0)
    columns = [joined.blocks[0].views.index(rows.labels[label]) for label in rows.label_N]
    sure[np.arange(len(sure)), columns] = 9.0
    right = replace(rows, logits=(sure, *rows.logits[1:]))
    weight_L, bias = fit_competence([right], 0, joined.blocks[0])
    assert not weight_L.any()
    assert bias == pytest.approx(np.log(len(sure) + 1.0))
    assert fit_competence([], 0, joined.blocks[0])[1] == 0.0


def test_a_new_dataset_does_not_make_old_ones_worse(
    joined_by_number: Mapping[int, JoinedRows],
) -> None:
    def macro(fusion: UnionHead, joined: JoinedRows) -> float:
        return macro_score(
            score_rows(rows, fuse_rows(fusion, rows).log_probabilities_NV, fusion.views)
            for rows in joined.datasets
        )

    three, four = joined_by_number[3], joined_by_number[4]
    old = replace(four, datasets=four.datasets[:3])
    # 90 test clips: 0.03 is less than three of them
    assert macro(fitted(four), old) > macro(fitted(three), three) - 0.03


def as_training(rows: DatasetRows) -> DatasetRows:
    return replace(rows, split_N=np.where(rows.split_N == 1, 0, rows.split_N))


def test_the_final_head_is_that_of_training_and_validation_rows_at_what_was_chosen(
    joined: JoinedRows,
) -> None:
    held_out = held_out_rows(joined)
    space = FeatureSpace(joined.blocks)
    sums = [sum_rows(rows, space) for rows in joined.datasets]
    both = [sum_rows(as_training(rows), space) for rows in joined.datasets]
    chosen = choose_head(fit_ridge, sums, held_out, space, balance=True)
    final = choose_head(fit_ridge, sums, held_out, space, balance=True, again=both)
    assert final.temperature == chosen.temperature
    matches = [
        np.allclose(
            fit_ridge(both, space, ridge=ridge, balance=True).weight_DV, final.weight_DV, atol=1e-12
        )
        for ridge in RIDGES
        if np.allclose(
            fit_ridge(sums, space, ridge=ridge, balance=True).weight_DV, chosen.weight_DV
        )
    ]
    assert matches == [True]
    fusion = fit_union_head(joined, held_out, balance=True, is_final=True)
    told_NV = fuse_rows(fusion, joined.datasets[0]).log_probabilities_NV
    np.testing.assert_allclose(told_NV, final.tell(joined.datasets[0]), atol=1e-3)
