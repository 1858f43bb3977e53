"""Training of the fusion: it beats what it is made of, forgets nothing, and is reproducible."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch

from aggregator.fusion.evaluate import fuse_rows, is_scored, macro_score, score_rows
from aggregator.fusion.report import compare
from aggregator.fusion.rows import by_expert, drop_experts, held_out_rows, training_rows
from aggregator.fusion.train import FusionTrials, Provenance, train_fusions
from aggregator.fusion.translate import without_experts
from aggregator.joined_rows import JoinedRows, select_rows
from aggregator.settings import FusionSettings
from shared.echo.expert import FusionVariant, Rejection, read_fusion_card
from shared.echo.label_sets import possible_views
from shared.echo.manifest import SPLITS
from shared.echo.schema import to_document
from shared.errors import Code, EchoFedError
from shared.metrics import vocabulary_log_probabilities
from shared.models.fusion import ScoreFusion
from shared.models.fusion_weights import build_fusion, build_novelty
from shared.settings import build_settings

VARIANTS: tuple[FusionVariant, ...] = ("sum", "attention", "discrepancy", "ridge", "blend")
QUICK = FusionSettings(epochs=15, batch_size=64, threads=1)
ONE = QUICK.model_copy(update={"variants": ("discrepancy",)})
BRIEF = ONE.model_copy(update={"epochs": 2})
CARD = Provenance(created="2026-01-02T00:00:00+00:00", fresh=("north/north-echo",))


@pytest.fixture(scope="module")
def trials(joined: JoinedRows) -> FusionTrials:
    return train_fusions(joined, QUICK, CARD)


def macro(fusion: ScoreFusion, joined: JoinedRows) -> float:
    return macro_score(
        score_rows(rows, fuse_rows(fusion, rows).log_probabilities_NV, fusion.views)
        for rows in joined.datasets
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_beats_each_expert_and_every_untrained_baseline(
    trials: FusionTrials, joined: JoinedRows, variant: FusionVariant
) -> None:
    report = compare(joined, {variant: trials.by_variant[variant].fusion}, {})
    fused = report.macro_f1.pop(f"fused {variant}")
    assert len(report.macro_f1) == 3 + 3
    assert fused > max(report.macro_f1.values())


def test_the_discrepancy_gate_prefers_the_expert_that_is_at_home(
    trials: FusionTrials, joined: JoinedRows
) -> None:
    fusion = trials.by_variant["discrepancy"].fusion
    id_scores = compare(joined, {"discrepancy": fusion}, {}).id_scores["discrepancy"]
    for rows, home in zip(joined.datasets, joined.blocks, strict=True):
        by_expert = id_scores[rows.name]
        assert max(by_expert, key=lambda expert: by_expert[expert]) == home.expert


def test_a_new_expert_does_not_make_old_datasets_worse(
    trials: FusionTrials, joined_by_number: Mapping[int, JoinedRows]
) -> None:
    four = joined_by_number[4]
    grown = train_fusions(four, ONE, CARD).best.fusion
    before = macro(trials.by_variant["discrepancy"].fusion, joined_by_number[3])
    # 90 test clips: 0.03 is less than three of them
    assert macro(grown, replace(four, datasets=four.datasets[:3])) > before - 0.03
    assert macro(grown, replace(four, datasets=four.datasets[3:])) > 0.85


def test_the_best_by_validation_is_chosen(trials: FusionTrials, joined: JoinedRows) -> None:
    best = max(trials.by_variant.values(), key=lambda one: one.certainty)
    assert trials.best is best
    assert len({one.certainty for one in trials.by_variant.values()}) > 1
    assert all(one.validation == max(one.curve) for one in trials.by_variant.values())
    serve_sum = BRIEF.model_copy(update={"variants": VARIANTS, "serve": "sum", "epochs": 1})
    assert train_fusions(joined, serve_sum, CARD).best.card.variant == "sum"


def test_the_card_describes_the_weights(trials: FusionTrials, joined: JoinedRows) -> None:
    for trained in trials.by_variant.values():
        card = read_fusion_card(to_document(trained.card))
        assert card == trained.card
        again = build_fusion(card, trained.weights)
        for rows in joined.datasets:
            one, other = fuse_rows(trained.fusion, rows), fuse_rows(again, rows)
            assert np.array_equal(one.log_probabilities_NV, other.log_probabilities_NV)
        assert card.blocks == joined.blocks
        assert len(card.exports) == 9
        assert card.fresh == ("north/north-echo",)
        assert {one.dataset for one in card.carries} == {rows.name for rows in joined.datasets}
        assert set(card.rejections) == {"north", "south", "east"}
        novelty = build_novelty(card, trained.weights)
        assert novelty is not None
        assert [home.dataset for home in novelty.homes] == [one.dataset for one in card.carries]


def test_a_card_of_the_first_version_carries_and_rejects_nothing(trials: FusionTrials) -> None:
    document = to_document(trials.best.card) | {"version": 1}
    del document["carries"], document["rejections"]
    card = read_fusion_card(document)
    assert (card.carries, card.rejections, card.rejection("north")) == ((), {}, None)


def test_a_card_that_hides_what_the_weights_carry_is_refused(trials: FusionTrials) -> None:
    silent = replace(trials.best.card, carries=())
    with pytest.raises(EchoFedError) as caught:
        build_novelty(silent, trials.best.weights)
    assert caught.value.code is Code.CHECKPOINT_CORRUPT


def test_an_unknown_site_has_the_strictest_thresholds(trials: FusionTrials) -> None:
    card = replace(trials.best.card, rejections={"a": Rejection(0.2), "b": Rejection(0.4)})
    assert card.rejection("a") == Rejection(0.2)
    assert card.rejection("elsewhere") == Rejection(0.4)


def test_the_same_seed_gives_the_same_bytes(joined: JoinedRows) -> None:
    one, other = (train_fusions(joined, BRIEF, CARD).best.weights for _ in range(2))
    assert one == other
    reseeded = BRIEF.model_copy(update={"seed": 11})
    assert train_fusions(joined, reseeded, CARD).best.weights != one


def test_the_order_of_experts_does_not_change_what_is_learnt(joined: JoinedRows) -> None:
    def turn(values: tuple) -> tuple:
        return values[::-1]

    turned = replace(
        joined,
        blocks=turn(joined.blocks),
        datasets=tuple(
            replace(
                rows,
                features=turn(rows.features),
                logits=turn(rows.logits),
                evidence=turn(rows.evidence),
            )
            for rows in joined.datasets
        ),
    )
    for variant in VARIANTS:
        settings = BRIEF.model_copy(update={"variants": (variant,)})
        one = train_fusions(joined, settings, CARD).best.fusion
        other = train_fusions(turned, settings, CARD).best.fusion
        rows, turned_rows = joined.datasets[0], turned.datasets[0]
        np.testing.assert_allclose(
            fuse_rows(one, rows).log_probabilities_NV,
            fuse_rows(other, turned_rows).log_probabilities_NV,
            atol=2e-3,  # float32 sums in another order, over two epochs of Adam
        )


@pytest.mark.parametrize("variant", ["sum", "attention", "discrepancy"])
def test_one_expert_alone_is_what_a_score_fusion_of_it_says(
    joined_by_number: Mapping[int, JoinedRows], variant: FusionVariant
) -> None:
    alone = joined_by_number[1]
    trained = train_fusions(alone, BRIEF.model_copy(update={"variants": (variant,)}), CARD).best
    (rows,) = alone.datasets
    fused = fuse_rows(trained.fusion, rows)
    assert np.array_equal(fused.id_scores_NE, np.ones_like(fused.id_scores_NE))
    own = rows.logits[0] - np.log(np.exp(rows.logits[0]).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(fused.log_probabilities_NV, own, atol=1e-4)


def test_a_coarse_label_teaches_the_views_it_covers(joined: JoinedRows) -> None:
    south = joined.datasets[1]
    coarse = replace(
        south,
        labels=("apical", "short axis"),
        label_views=(("A4C",), ("PSAX",)),
        label_N=np.minimum(south.label_N, 1),
    )
    relabelled = replace(joined, datasets=(joined.datasets[0], coarse, joined.datasets[2]))
    fusion = train_fusions(relabelled, ONE.model_copy(update={"epochs": 8}), CARD).best.fusion
    told = fuse_rows(fusion, coarse).log_probabilities_NV
    scores = score_rows(coarse, told, fusion.views)
    assert scores is not None
    assert scores.clips.labels == ("apical", "short axis")
    assert scores.clips.macro_f1 > 0.9


def test_labels_without_a_view_are_neither_learnt_nor_scored(joined: JoinedRows) -> None:
    mute = replace(joined.datasets[0], label_views=(("A4C",), ("A2C",), ()))
    muted = replace(joined, datasets=(mute, *joined.datasets[1:]))
    fusion = train_fusions(muted, BRIEF, CARD).best.fusion
    scores = score_rows(mute, fuse_rows(fusion, mute).log_probabilities_NV, fusion.views)
    assert scores is not None
    assert set(scores.frames.f1) == set(mute.labels[:2])


def test_a_dataset_that_one_expert_has_not_seen_still_teaches(incomplete: JoinedRows) -> None:
    trained = train_fusions(incomplete, ONE, CARD).best
    assert trained.card.missing == ("north/north-echo",)
    north = incomplete.datasets[0]
    fused = fuse_rows(trained.fusion, north)
    assert (fused.id_scores_NE[:, 2] == 0).all()
    assert macro(trained.fusion, replace(incomplete, datasets=(north,))) > 0.85


def test_a_warm_start_begins_where_the_last_fusion_ended(
    trials: FusionTrials, joined_by_number: Mapping[int, JoinedRows]
) -> None:
    source = trials.by_variant["discrepancy"].fusion
    standing = BRIEF.model_copy(update={"learning_rate": 1e-12, "epochs": 1})
    same = train_fusions(joined_by_number[3], standing, CARD, warm_start=source).best.fusion
    rows = joined_by_number[3].datasets[0]
    np.testing.assert_allclose(
        fuse_rows(same, rows).log_probabilities_NV,
        fuse_rows(source, rows).log_probabilities_NV,
        atol=1e-5,
    )
    warm, cold = (
        train_fusions(joined_by_number[4], standing, CARD, warm_start=start).best.validation
        for start in (source, None)
    )
    assert warm > cold


def test_progress_is_told_after_every_epoch(joined: JoinedRows) -> None:
    told: list[tuple[str, int, int]] = []
    train_fusions(joined, BRIEF, CARD, progress=lambda *step: told.append(step))
    assert told == [("discrepancy", 1, 2), ("discrepancy", 2, 2)]


def test_training_stops_when_validation_no_longer_improves(joined: JoinedRows) -> None:
    idle = BRIEF.model_copy(update={"learning_rate": 1e-30, "epochs": 30, "patience": 3})
    assert len(train_fusions(joined, idle, CARD).best.curve) == 3


def test_a_bank_without_training_or_validation_rows_has_its_code(joined: JoinedRows) -> None:
    for gone in ("train", "val"):
        code = SPLITS.index(gone)
        emptied = replace(
            joined,
            datasets=tuple(
                replace(rows, split_N=np.where(rows.split_N == code, 2, rows.split_N))
                for rows in joined.datasets
            ),
        )
        with pytest.raises(EchoFedError) as missing:
            train_fusions(emptied, BRIEF, CARD)
        assert missing.value.code == Code.FRAMES_MISSING
        assert "training" in missing.value.message or "validation" in missing.value.message


def test_a_variant_that_is_not_trained_cannot_be_served() -> None:
    with pytest.raises(EchoFedError) as refused:
        build_settings(FusionSettings, {"variants": ["sum"], "serve": "attention"})
    assert refused.value.code == Code.CONFIG_INVALID


@pytest.mark.parametrize("kind", ["joined", "incomplete"])
def test_dropping_experts_leaves_an_owner_of_a_covered_view(
    kind: str, request: pytest.FixtureRequest
) -> None:
    joined: JoinedRows = request.getfixturevalue(kind)
    fusion = ScoreFusion(joined.blocks, "sum")
    rows = training_rows(joined, fusion.views, balance=True)
    dropped = drop_experts(rows, fusion, 0.7, torch.Generator().manual_seed(0))
    again = drop_experts(rows, fusion, 0.7, torch.Generator().manual_seed(0))
    assert dropped.available_NE is not None
    assert again.available_NE is not None
    assert torch.equal(dropped.available_NE, again.available_NE)
    if rows.available_NE is not None:
        assert not (dropped.available_NE & ~rows.available_NE).any()
    inputs = by_expert(fusion, dropped.features, dropped.logits, dropped.evidence)
    told_NV = fusion(*inputs, dropped.available_NE).log_probabilities_NV
    covered_NV = told_NV.masked_fill(~dropped.is_target_NV, -torch.inf)
    assert covered_NV.logsumexp(dim=1).isfinite().all()
    assert 0.2 < dropped.available_NE.float().mean() < 0.8


def test_a_fusion_trained_with_dropout_bears_a_missing_expert_better(joined: JoinedRows) -> None:
    def certainty(dropout: float) -> float:
        settings = FusionSettings(
            variants=("sum",), epochs=15, threads=1, expert_dropout=dropout, patience=15
        )
        trained = train_fusions(joined, settings, Provenance("")).best
        told = []
        for place in range(3):
            for rows in joined.datasets:
                cut = without_experts(select_rows(rows, is_scored(rows, "test")), [place])
                told_NV = fuse_rows(trained.fusion, cut).log_probabilities_NV
                column_K = [trained.card.views.index(label) for label in rows.labels]
                told.append(told_NV[np.arange(len(told_NV)), np.array(column_K)[cut.label_N]])
        return float(np.maximum(np.concatenate(told), -30.0).mean())

    assert certainty(0.2) > certainty(0.0)


@pytest.mark.parametrize("variant", ["ridge", "blend"])
def test_a_refitted_variant_is_judged_by_what_had_not_seen_the_validation_rows(
    joined: JoinedRows, variant: FusionVariant
) -> None:
    settings = FusionSettings(variants=(variant,), epochs=2, threads=1)
    held_out = held_out_rows(joined)
    trained = train_fusions(joined, settings, Provenance("")).best
    told = [
        np.mean(
            vocabulary_log_probabilities(
                fuse_rows(trained.fusion, rows).log_probabilities_NV,
                possible_views(rows, trained.fusion.views),
            )[np.arange(len(rows.label_N)), rows.label_N]
        )
        for rows in held_out
    ]
    assert trained.certainty < np.mean(told)
