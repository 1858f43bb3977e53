from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from shared.echo.expert import (
    Block,
    Carried,
    FusionCard,
    Rejection,
    load_fusion,
    save_checkpoint,
)
from shared.echo.manifest import Split
from shared.errors import Code, EchoFedError
from shared.evidence.gaussian import shrunk_covariance
from shared.files import sha256_hex
from shared.models.fusion import ScoreFusion
from shared.models.fusion_weights import build_fusion, fusion_to_bytes
from shared.models.novelty import Group, Home, Novelty, coordinates
from shared.settings import build_settings
from site_client.evaluate import (
    blacken_sector,
    evaluate_expert,
    evaluate_fusion,
    judge_fusion,
    open_council,
)
from site_client.extract import look_at_once
from site_client.frames import load_frames
from site_client.overlay import draw_overlay
from site_client.predict import open_fusion, open_single, predict
from site_client.settings import ExpertSettings
from site_client.store import SiteStore
from site_client.training.batches import plain_batches
from site_client.training.expert import train_expert


def trained(store: SiteStore, dataset: str, **changes: Any) -> str:
    small: dict[str, Any] = {
        "backbone": "test_resnet",
        "image_size": 32,
        "epochs": 8,
        "batch_size": 12,
        "threads": 1,
    }
    settings = build_settings(ExpertSettings, small | {"rotation_deg": 10.0} | changes)
    return train_expert(
        store, [dataset], settings, site="north", now=datetime(2026, 1, 1, tzinfo=UTC),
        report=lambda step: None,
    ).id  # fmt: skip


def fused(store: SiteStore, *experts: str, abstain_below: float = 0.0) -> str:
    """A fusion as it stands before training: the experts' own heads and small cross heads."""
    from site_client.evaluate import open_expert

    cards = [open_expert(store, expert).card for expert in experts]
    blocks = [Block(c.id, c.views, c.feature_width, len(c.layers)) for c in cards]
    fusion = ScoreFusion(blocks, "discrepancy")
    weights = fusion_to_bytes(fusion)
    card = FusionCard(
        id=f"fusion-{sha256_hex(weights)[:8]}", variant="discrepancy", views=fusion.views,
        blocks=tuple(blocks), weights_sha256=sha256_hex(weights), parent="", exports=(), fresh=(),
        cached=(), missing=(), seed=0, settings_hash="", settings={}, metrics={},
        abstain_below=abstain_below, created="",
    )  # fmt: skip
    save_checkpoint(store.fusion_folder(card.id), card, weights)
    return card.id


@pytest.fixture(scope="module")
def store_with_two(
    tmp_path_factory: pytest.TempPathFactory, build_striped_site: Any
) -> tuple[SiteStore, str, str]:
    root = tmp_path_factory.mktemp("site")
    build_striped_site(root, {"4CH": ("A4C",), "2CH": ("A2C",)}, dataset="one")
    store = build_striped_site(root, {"4CH": ("A4C",), "long": ("PLAX",)}, dataset="two")
    return store, trained(store, "one"), trained(store, "two", image_size=40, epochs=1)


def test_trained_expert_scores_by_frame_and_by_clip(
    store_with_two: tuple[SiteStore, str, str],
) -> None:
    store, one, _ = store_with_two
    scored = evaluate_expert(store, one, "one")
    assert scored.frames.num == 2 * 2 * 3
    assert scored.clips.num == 2 * 2
    assert scored.clips.balanced_accuracy >= 0.75
    assert scored.split == "test"


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_no_model_is_judged_on_synthetic_pictures(
    store_with_two: tuple[SiteStore, str, str], split: Split
) -> None:
    store, one, _ = store_with_two
    manifest = store.manifest("one")
    kept = tuple(clip for clip in manifest.clips if clip.split != "test")
    store.save_manifest(replace(manifest, id="drawn", origin="synthetic", clips=kept))
    for judge, model in ((evaluate_expert, one), (judge_fusion, fused(store, one))):
        with pytest.raises(EchoFedError) as caught:
            judge(store, model, "drawn", split=split)
        assert caught.value.code is Code.ORIGIN_UNFIT
    with pytest.raises(EchoFedError) as caught:
        evaluate_fusion(store, fused(store, one), "drawn")
    assert caught.value.code is Code.ORIGIN_UNFIT


def test_fusion_of_experts_of_different_sizes_is_scored_and_may_be_reported(
    store_with_two: tuple[SiteStore, str, str],
) -> None:
    store, one, two = store_with_two
    fusion = fused(store, one, two)
    scored = judge_fusion(store, fusion, "two")
    assert sum(scored.id_scores.values()) == pytest.approx(1)
    document = evaluate_fusion(store, fusion, "two")
    assert document["num"] == scored.clips.num
    assert document["fusion"] == fusion


def test_verdict_adds_up(store_with_two: tuple[SiteStore, str, str]) -> None:
    store, one, two = store_with_two
    store.set_serving(fused(store, one, two, abstain_below=1.1))
    clip = store.clip("one", store.manifest("one").clips[0])
    verdict = predict(clip, open_fusion(store))
    assert sum(verdict.probabilities.values()) == pytest.approx(1)
    assert verdict.view == max(verdict.probabilities, key=lambda view: verdict.probabilities[view])
    assert sum(say.id_score for say in verdict.experts) == pytest.approx(1)
    assert verdict.abstains
    assert verdict.num_frames == len(clip.pixels_THW)
    assert set(verdict.remainder) == {"A4C", "A2C", "PLAX"}
    assert all(value == pytest.approx(0, abs=1e-4) for value in verdict.remainder.values())


def knowing(store: SiteStore, fusion: str, dataset: str, **rejections: Rejection) -> str:
    """The same fusion, which now knows the frames of one dataset, with thresholds by site."""
    card, weights = load_fusion(store.require_fusion(fusion))
    council = open_council(store, fusion)
    frames = load_frames(store, [dataset], image_size=32, splits=("train",))
    sized = {32: frames, 40: load_frames(store, [dataset], image_size=40, splits=("train",))}
    looks = [
        look_at_once([one], plain_batches(sized[one.card.image_size], 64))[0]
        for one in council.experts
    ]
    groups = coordinates(
        card.blocks,
        [look.features_ND.numpy() for look in looks],
        [look.logits_NC.numpy() for look in looks],
        [look.discrepancy_NL.numpy() for look in looks],
    )
    kept = tuple(
        Group(rows_ND.mean(axis=0)[None], shrunk_covariance(rows_ND - rows_ND.mean(axis=0), 0.1))
        for rows_ND in groups
    )
    home = Home("north/one", (True, True), np.ones(1), kept)
    packed = fusion_to_bytes(build_fusion(card, weights), Novelty(card.blocks, (home,)))
    known = replace(
        card,
        id=f"fusion-{sha256_hex(packed)[:8]}",
        weights_sha256=sha256_hex(packed),
        carries=(Carried("north/one", "", "class means and covariance", 1, 5, 1),),
        rejections=rejections,
    )
    save_checkpoint(store.fusion_folder(known.id), known, packed)
    return known.id


@pytest.mark.parametrize(
    ("id_scalar_below", "doubts"),
    [(0.0, ()), (1.1, ("unknown scanner or view",))],
)
def test_a_verdict_says_what_is_unknown(
    store_with_two: tuple[SiteStore, str, str],
    id_scalar_below: float,
    doubts: tuple[str, ...],
) -> None:
    store, one, two = store_with_two
    mine, never = Rejection(id_scalar_below), Rejection(2.0)
    name = knowing(store, fused(store, one, two), "one", north=mine, south=never)
    clip = store.clip("one", store.manifest("one").clips[0])
    verdict = predict(clip, open_fusion(store, name, site="north"))
    assert verdict.doubts == doubts
    assert verdict.abstains == bool(doubts)
    assert verdict.id_scalar is not None
    assert 0 <= verdict.id_scalar <= 1
    elsewhere = predict(clip, open_fusion(store, name, site="new"))
    assert elsewhere.doubts == ("unknown scanner or view",)
    assert elsewhere.id_scalar == verdict.id_scalar


def test_noise_is_less_at_home_than_a_clip_of_the_site(
    store_with_two: tuple[SiteStore, str, str],
) -> None:
    store, one, two = store_with_two
    judge = open_fusion(store, knowing(store, fused(store, one, two), "one"), site="north")
    clip = store.clip("one", store.manifest("one").clips[0])
    generator = np.random.default_rng(0)
    noise = replace(
        clip, pixels_THW=generator.integers(0, 255, clip.pixels_THW.shape, dtype=np.uint8)
    )
    here, away = predict(clip, judge).id_scalar, predict(noise, judge).id_scalar
    assert here is not None
    assert away is not None
    assert here > away


def test_low_probability_is_a_doubt_of_its_own(store_with_two: tuple[SiteStore, str, str]) -> None:
    store, one, two = store_with_two
    name = fused(store, one, two, abstain_below=1.1)
    clip = store.clip("one", store.manifest("one").clips[0])
    verdict = predict(clip, open_fusion(store, name))
    assert verdict.doubts == ("low probability",)
    assert verdict.id_scalar is None


def test_single_expert_gives_its_own_softmax(store_with_two: tuple[SiteStore, str, str]) -> None:
    store, one, _ = store_with_two
    clip = store.clip("one", store.manifest("one").clips[0])
    verdict = predict(clip, open_single(store, one))
    logits = np.array([verdict.experts[0].contributions[view] for view in verdict.probabilities])
    expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    found = np.array(list(verdict.probabilities.values()))
    assert found.argmax() == expected.argmax()
    assert verdict.experts[0].id_score == 1
    assert verdict.experts[0].top_view == verdict.view
    assert not verdict.abstains


def test_overlay_is_a_picture(store_with_two: tuple[SiteStore, str, str]) -> None:
    store, one, _ = store_with_two
    clip = store.clip("one", store.manifest("one").clips[0])
    data = draw_overlay(clip, predict(clip, open_single(store, one)))
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert len(data) > 5000


def test_blackened_sector_leaves_the_background(striped_site: Any) -> None:
    frames = load_frames(striped_site(), ["demo"], image_size=32)
    black = blacken_sector(frames)
    inside = frames.mask_KHW[frames.clip_N]
    assert (black.pixels_NHW[inside] == 0).all()
    assert (black.pixels_NHW[~inside] == frames.pixels_NHW[~inside]).all()


def test_background_probe_needs_masks(striped_site: Any) -> None:
    frames = load_frames(striped_site(masked=False), ["demo"], image_size=32)
    with pytest.raises(EchoFedError) as refusal:
        blacken_sector(frames)
    assert refusal.value.code == Code.SECTOR_EMPTY


@pytest.mark.slow
def test_only_a_plain_expert_learns_what_the_background_gives_away(striped_site: Any) -> None:
    store = striped_site(shortcut=True)
    plain = trained(store, "demo", epochs=12, patience=12, backmix={"enabled": False})
    mixed = trained(store, "demo", epochs=12, patience=12)
    assert evaluate_expert(store, plain, "demo").frames.balanced_accuracy > 0.8
    assert evaluate_expert(store, mixed, "demo").frames.balanced_accuracy < 0.8
    probe = evaluate_expert(store, mixed, "demo", background_only=True)
    assert probe.frames.balanced_accuracy < 0.8


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda store: evaluate_expert(store, "nobody", "demo"), Code.EXPERT_UNKNOWN),
        (lambda store: judge_fusion(store, "nobody", "demo"), Code.FUSION_UNKNOWN),
        (open_fusion, Code.FUSION_UNKNOWN),
    ],
)
def test_unknown_model_is_an_error(striped_site: Any, call: Any, code: Code) -> None:
    with pytest.raises(EchoFedError) as refusal:
        call(striped_site())
    assert refusal.value.code == code
