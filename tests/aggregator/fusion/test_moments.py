"""Learning from statistics: equal to projected rows where it is exact, close where it is drawn."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
import torch

from aggregator.feature_bank import FeatureBank
from aggregator.fusion.analytic import fit_ridge
from aggregator.fusion.evaluate import fuse_rows, macro_score, score_rows
from aggregator.fusion.moments import (
    condense_datasets,
    condense_rows,
    project,
    stand_in_rows,
    unproject,
    with_stand_ins,
)
from aggregator.fusion.rows import fit_scales, held_out_rows, training_rows
from aggregator.fusion.sums import FeatureSpace, space_of, sum_datasets, sum_rows, sum_statistics
from aggregator.fusion.train import Provenance, train_fusions
from aggregator.joined_rows import JoinedRows, select_rows
from aggregator.settings import FusionSettings
from shared.echo.expert import FusionVariant, Rejection
from shared.echo.statistics import projection
from shared.models.fusion import ScoreFusion
from shared.testing.exports import GaussianWorld

WIDE = GaussianWorld(
    {"north": ("A4C", "A2C", "PLAX"), "south": ("A4C", "PSAX-AV", "PSAX-PM")},
    num_clips=40,
    feature_width=72,
)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> JoinedRows:
    """Two experts whose features are wider than their projections."""
    bank = FeatureBank(tmp_path_factory.mktemp("wide"))
    for site in WIDE.views:
        for expert in WIDE.views:
            data = WIDE.export(site, expert).to_bytes()
            bank.add(data, WIDE.experts(), now=datetime(2026, 1, 2, tzinfo=UTC))
    return bank.join([WIDE.expert(site).id for site in WIDE.views])


def condensed(joined: JoinedRows, shrinkage: float = 0.0) -> JoinedRows:
    names = [rows.name for rows in joined.datasets]
    return condense_datasets(joined, names, minimum=2, shrinkage=shrinkage)


@pytest.mark.parametrize("kind", ["wide", "joined", "incomplete"])
def test_ridge_by_statistics_equals_ridge_by_the_same_projected_rows(
    kind: str, request: pytest.FixtureRequest
) -> None:
    joined: JoinedRows = request.getfixturevalue(kind)
    told = condensed(joined)
    space = space_of(told)
    by_moments = fit_ridge(sum_datasets(told, space), space, ridge=1e-3, balance=True)
    sums = [sum_rows(rows, space) for rows in joined.datasets]
    by_rows = fit_ridge(sums, space, ridge=1e-3, balance=True)
    for rows in joined.datasets:
        np.testing.assert_allclose(by_moments.scores(rows), by_rows.scores(rows), atol=1e-8)


def test_statistics_of_a_concatenation_are_merged_statistics(wide: JoinedRows) -> None:
    rows, space = wide.datasets[0], FeatureSpace(wide.blocks, is_projected=True)
    half_N = rows.clip_N % 2 == 0
    parts = [
        condense_rows(select_rows(rows, keep_N), wide.blocks, minimum=2, shrinkage=0.0)
        for keep_N in (half_N, ~half_N)
    ]
    whole = condense_rows(rows, wide.blocks, minimum=2, shrinkage=0.0)
    one, other = (sum_statistics(part, space) for part in parts)
    both = sum_statistics(whole, space)
    np.testing.assert_allclose(one.num_V + other.num_V, both.num_V)
    np.testing.assert_allclose(one.sum_VD + other.sum_VD, both.sum_VD, atol=1e-8)
    np.testing.assert_allclose(one.gram_DD + other.gram_DD, both.gram_DD, atol=1e-7)


def test_rows_and_statistics_learn_side_by_side(wide: JoinedRows) -> None:
    half = condense_datasets(wide, [wide.datasets[0].name], minimum=2, shrinkage=0.0)
    space = space_of(half)
    mixed = fit_ridge(sum_datasets(half, space), space, ridge=1e-3, balance=True)
    sums = [sum_rows(rows, space) for rows in wide.datasets]
    by_rows = fit_ridge(sums, space, ridge=1e-3, balance=True)
    np.testing.assert_allclose(mixed.weight_DV, by_rows.weight_DV, atol=1e-8)


def test_the_moments_of_stand_ins_converge_to_those_that_were_sent(wide: JoinedRows) -> None:
    told = condensed(wide).statistics[0]
    many = replace(told.moments, num_frames_SK=0 * told.moments.num_frames_SK + 5_000)
    drawn = stand_in_rows(replace(told, moments=many), wide.blocks)
    again = condense_rows(drawn, wide.blocks, minimum=2, shrinkage=0.0).moments
    scale = np.sqrt(np.diagonal(told.moments.covariance_SMM[0]))
    # 15,000 rows in a part: four standard errors of a mean over 5,000, of a correlation over all
    error_KM = np.abs(again.mean_SKM[0] - told.moments.mean_SKM[0]) / scale
    assert error_KM.max() < 4.5 / np.sqrt(5_000)
    error_MM = np.abs(again.covariance_SMM[0] - told.moments.covariance_SMM[0])
    assert (error_MM / np.outer(scale, scale)).max() < 4.5 * np.sqrt(2 / 15_000)


def test_stand_ins_are_the_same_every_time_and_whatever_the_order_of_experts(
    wide: JoinedRows,
) -> None:
    told = condensed(wide).statistics[0]
    one, again = (stand_in_rows(told, wide.blocks) for _ in range(2))
    turned = stand_in_rows(told, wide.blocks[::-1])
    for name in ("features", "logits", "evidence"):
        for mine, same, other in zip(
            getattr(one, name), getattr(again, name), getattr(turned, name)[::-1], strict=True
        ):
            np.testing.assert_array_equal(mine, same)
            np.testing.assert_array_equal(mine, other)


def test_an_expert_that_statistics_do_not_tell_of_is_not_available(wide: JoinedRows) -> None:
    alone = condense_rows(
        replace(wide.datasets[0], available=(False, True)), wide.blocks, minimum=2
    )
    assert len(alone.card.blocks) == 1
    drawn = stand_in_rows(alone, wide.blocks)
    assert drawn.available == (False, True)
    assert not drawn.features[0].any()
    assert drawn.features[1].any()
    sums = sum_statistics(alone, FeatureSpace(wide.blocks, is_projected=True))
    assert sums.available == (False, True)
    assert not sums.gram_DD[:64].any()


@pytest.mark.parametrize("variant", ["sum", "attention", "discrepancy"])
def test_a_fusion_says_the_same_of_whole_features_as_of_their_projections(
    wide: JoinedRows, variant: FusionVariant
) -> None:
    narrow = project(wide)
    fusion = ScoreFusion(narrow.blocks, variant, seed=1)
    fit_scales(fusion, training_rows(narrow, fusion.views, balance=True))
    whole = unproject(fusion.eval(), wide.blocks)
    for rows, projected in zip(wide.datasets, narrow.datasets, strict=True):
        one, other = fuse_rows(whole, rows), fuse_rows(fusion, projected)
        np.testing.assert_allclose(one.id_scores_NE, other.id_scores_NE, atol=1e-4)
        np.testing.assert_allclose(one.log_probabilities_NV, other.log_probabilities_NV, atol=1e-3)


def test_projected_rows_lie_where_the_projection_says(wide: JoinedRows) -> None:
    narrow = project(wide)
    expected = wide.datasets[0].features[1] @ projection(wide.blocks[1])
    np.testing.assert_allclose(narrow.datasets[0].features[1], expected, atol=1e-4)
    assert [block.feature_width for block in narrow.blocks] == [64, 64]


@pytest.mark.parametrize("variant", ["ridge", "sum"])
def test_statistics_alone_teach_nearly_what_rows_teach(
    wide: JoinedRows, variant: FusionVariant
) -> None:
    settings = FusionSettings(variants=(variant,), epochs=15, threads=1)
    scores = []
    for joined in (wide, condensed(wide, 0.01)):
        trained = train_fusions(joined, settings, Provenance("")).best
        assert trained.card.blocks == wide.blocks
        told = [fuse_rows(trained.fusion, rows).log_probabilities_NV for rows in wide.datasets]
        pairs = zip(wide.datasets, told, strict=True)
        scores.append(macro_score(score_rows(rows, one, trained.card.views) for rows, one in pairs))
    # 60 test clips: 0.1 is six of them
    assert scores[1] > scores[0] - 0.1
    assert scores[0] > 0.6


def test_statistics_are_named_among_the_exports_and_validate_by_stand_ins(wide: JoinedRows) -> None:
    told = condensed(wide)
    assert {rows.name for rows in held_out_rows(told)} == {rows.name for rows in wide.datasets}
    settings = FusionSettings(variants=("ridge",), threads=1)
    card = train_fusions(told, settings, Provenance("")).best.card
    assert set(card.exports) == {one.card.id for one in told.statistics}
    assert 0.0 < card.abstain_below < 1.0


def test_a_site_that_sent_statistics_takes_nothing_for_unknown(wide: JoinedRows) -> None:
    """Its clips are like nothing that the fusion keeps, though it learned from them."""
    half = condense_datasets(wide, [wide.datasets[0].name], minimum=2)
    settings = FusionSettings(variants=("ridge",), threads=1)
    card = train_fusions(half, settings, Provenance("")).best.card
    assert [one.dataset for one in card.carries] == ["south/south-echo"]
    assert card.rejections["north"] == Rejection(0.0)
    assert card.rejection("elsewhere") == card.rejections["south"] != Rejection(0.0)


def test_without_statistics_nothing_changes(wide: JoinedRows) -> None:
    assert with_stand_ins(wide) is wide
    assert not space_of(wide).is_projected
    assert torch.equal(
        training_rows(with_stand_ins(wide), ("A4C", "A2C"), balance=True).features,
        training_rows(wide, ("A4C", "A2C"), balance=True).features,
    )
