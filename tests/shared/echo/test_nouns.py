"""Nouns read back equal, refuse what is newer or damaged, and keep patients apart."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shared.echo.expert import (
    ExpertCard,
    expert_document,
    load_expert,
    read_expert_card,
    save_checkpoint,
)
from shared.echo.features import FeatureExport, read_export
from shared.echo.frame import Clip
from shared.echo.manifest import SPLITS, DatasetManifest, load_manifest, save_manifest
from shared.echo.schema import to_document
from shared.echo.sector import Fan, SectorMask
from shared.echo.synthesis import Synthesis
from shared.errors import Code, EchoFedError
from shared.files import arrays_from_bytes, arrays_to_bytes, sha256_hex, write_json


def expert_card(weights: bytes) -> ExpertCard:
    return ExpertCard(
        id="north-demo-0", site="north", datasets=("demo",), dataset_hashes=("0",),
        origin="phantom", backbone="mobilenetv4_conv_small", image_size=112, views=("A4C", "A2C"),
        feature_width=1280, layers=("bn1",), weights_sha256=sha256_hex(weights), parent="", seed=1,
        settings_hash="", settings={}, metrics={"f1": 0.5},
        created="2026-01-01T00:00:00Z",
    )  # fmt: skip


def code_of(caught: pytest.ExceptionInfo[EchoFedError]) -> Code:
    return caught.value.code


def test_a_manifest_reads_back_equal(manifest: DatasetManifest, tmp_path: Path) -> None:
    save_manifest(manifest, tmp_path / "manifest.json")
    assert load_manifest(tmp_path / "manifest.json") == manifest


def test_the_content_hash_follows_labels_splits_and_pixels(manifest: DatasetManifest) -> None:
    same = replace(manifest, clips=tuple(reversed(manifest.clips)), licence="other")
    assert same.content_hash() == manifest.content_hash()
    first = replace(manifest.clips[0], sha256="f" * 64)
    assert (
        replace(manifest, clips=(first, *manifest.clips[1:])).content_hash()
        != manifest.content_hash()
    )


def test_the_content_hash_follows_the_record_of_views_where_a_label_rests_on_it(
    manifest: DatasetManifest,
) -> None:
    recorded = replace(manifest, annotated=("A4C-full",), never_images=("SSN",))
    assert recorded.content_hash() == manifest.content_hash()
    assert replace(manifest, folds={"A5C": "4CH"}).content_hash() != manifest.content_hash()
    rest = replace(manifest, labels=manifest.labels | {"rest": ("other",)})
    assert replace(rest, annotated=("A4C-full",)).content_hash() != rest.content_hash()


def test_a_label_that_says_nothing_stands_for_nothing(manifest: DatasetManifest) -> None:
    odd = replace(manifest, labels={"4CH": ("A4C",), "?": ("not-sure",), "rest": ("other",)})
    assert odd.label_map().views() == ("A4C",)
    assert replace(odd, annotated=("A4C-full",)).label_map().views() == ("A4C", "other")


def test_a_patient_in_two_splits_is_refused_without_naming_the_patient(
    manifest: DatasetManifest,
) -> None:
    torn = replace(manifest.clips[0], split="test")
    with pytest.raises(EchoFedError) as caught:
        replace(manifest, clips=(torn, *manifest.clips[1:]))
    assert code_of(caught) is Code.PATIENT_IN_TWO_SPLITS
    assert torn.patient not in str(caught.value)


def test_a_synthetic_dataset_has_no_test_clips_however_its_manifest_is_made(
    manifest: DatasetManifest, tmp_path: Path
) -> None:
    drawn = replace(
        manifest,
        origin="synthetic",
        clips=tuple(clip for clip in manifest.clips if clip.split != "test"),
    )
    tested = next(clip for clip in manifest.clips if clip.split == "test")
    with pytest.raises(EchoFedError) as caught:
        replace(drawn, clips=(*drawn.clips, tested))
    assert code_of(caught) is Code.ORIGIN_UNFIT
    document = to_document(manifest) | {"origin": "synthetic"}
    write_json(tmp_path / "manifest.json", document)
    with pytest.raises(EchoFedError) as caught:
        load_manifest(tmp_path / "manifest.json")
    assert code_of(caught) is Code.ORIGIN_UNFIT


def test_a_drawn_clip_stands_in_a_synthetic_dataset_only(manifest: DatasetManifest) -> None:
    stamp = Synthesis("north-spade_unet-0", "0" * 64, 1, "1" * 64, 0.5)
    first = replace(manifest.clips[0], synthesis=stamp, split="train")
    with pytest.raises(EchoFedError) as caught:
        replace(manifest, origin="real", clips=(first,))
    assert code_of(caught) is Code.ORIGIN_UNFIT
    assert replace(manifest, origin="synthetic", clips=(first,)).clips == (first,)


def test_rows_of_synthetic_pictures_are_none_to_test_on(feature_export: FeatureExport) -> None:
    drawn = replace(feature_export, card=replace(feature_export.card, origin="synthetic"))
    assert (drawn.split_N == SPLITS.index("test")).any()
    with pytest.raises(EchoFedError) as caught:
        read_export(drawn.to_bytes())
    assert code_of(caught) is Code.ORIGIN_UNFIT
    learnt = replace(drawn, split_N=np.zeros_like(drawn.split_N))
    assert read_export(learnt.to_bytes()).card.origin == "synthetic"


def test_newer_cards_manifests_and_exports_are_refused(
    manifest: DatasetManifest, feature_export: FeatureExport, tmp_path: Path
) -> None:
    with pytest.raises(EchoFedError) as caught:
        read_expert_card({**expert_document(expert_card(b"")), "version": 99})
    assert code_of(caught) is Code.CARD_NEWER
    save_manifest(replace(manifest, version=99), tmp_path / "manifest.json")
    with pytest.raises(EchoFedError) as caught:
        load_manifest(tmp_path / "manifest.json")
    assert code_of(caught) is Code.CARD_NEWER
    newer = replace(feature_export, card=replace(feature_export.card, version=99))
    with pytest.raises(EchoFedError) as caught:
        read_export(newer.to_bytes())
    assert code_of(caught) is Code.CARD_NEWER


def test_weights_and_card_belong_together(tmp_path: Path) -> None:
    weights = arrays_to_bytes({"w": np.ones(3, dtype=np.float32)}, {})
    save_checkpoint(tmp_path, expert_card(weights), weights)
    assert load_expert(tmp_path) == (expert_card(weights), weights)
    (tmp_path / "weights.safetensors").write_bytes(weights[:-1] + b"\x00")
    with pytest.raises(EchoFedError) as caught:
        load_expert(tmp_path)
    assert code_of(caught) is Code.CHECKPOINT_CORRUPT


def test_a_card_with_a_wrong_type_names_the_field() -> None:
    with pytest.raises(EchoFedError, match="feature_width"):
        read_expert_card({**expert_document(expert_card(b"")), "feature_width": "wide"})


def test_an_export_reads_back_equal(feature_export: FeatureExport) -> None:
    back = read_export(feature_export.to_bytes())
    assert back.card == feature_export.card
    for name in ("frame_N", "label_N", "features_ND", "logits_NC", "discrepancy_NL"):
        assert np.array_equal(getattr(back, name), getattr(feature_export, name))
        assert getattr(back, name).dtype == getattr(feature_export, name).dtype


def test_an_export_of_version_1_rules_nothing_out(feature_export: FeatureExport) -> None:
    arrays, metadata = arrays_from_bytes(feature_export.to_bytes())
    card = json.loads(metadata["card"]) | {"version": 1}
    for name in ("annotated", "never_images", "folds"):
        del card[name]
    old = read_export(arrays_to_bytes(arrays, {"card": json.dumps(card)})).card
    assert (old.annotated, old.never_images, dict(old.folds)) == ((), (), {})
    assert old.version == 1


def with_card(**changes: object) -> Callable[[FeatureExport], FeatureExport]:
    return lambda export: replace(export, card=replace(export.card, **changes))  # type: ignore[arg-type]


def nan(export: FeatureExport) -> FeatureExport:
    features = export.features_ND.copy()
    features[3, 1] = np.nan
    return replace(export, features_ND=features)


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (nan, Code.FEATURES_NOT_FINITE),
        (lambda e: replace(e, features_ND=e.features_ND[:, :4]), Code.FEATURE_WIDTH),
        (lambda e: replace(e, frame_N=np.zeros_like(e.frame_N)), Code.FEATURES_INVALID),
        (lambda e: replace(e, label_N=e.label_N + 5), Code.FEATURES_INVALID),
        (with_card(labels=(), label_views=()), Code.FEATURES_INVALID),
        (with_card(label_views=(("A4C",),)), Code.FEATURES_INVALID),
        (with_card(annotated=("A4D",)), Code.FEATURES_INVALID),
        (with_card(folds={"A5C": "5CH"}), Code.FEATURES_INVALID),
        (lambda e: replace(e, split_N=e.split_N + 7), Code.FEATURES_INVALID),
        (lambda e: replace(e, pass_N=np.ones_like(e.pass_N)), Code.FEATURES_INVALID),
        (lambda e: replace(e, features_ND=e.features_ND.astype(np.float64)), Code.FEATURES_INVALID),
    ],
)
def test_damaged_exports_are_refused_with_their_code(
    feature_export: FeatureExport, damage, code: Code
) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(EchoFedError) as caught:
        read_export(damage(feature_export).to_bytes())
    assert code_of(caught) is code


def test_an_undeclared_array_or_metadata_is_refused(feature_export: FeatureExport) -> None:
    arrays, metadata = arrays_from_bytes(feature_export.to_bytes())
    with pytest.raises(EchoFedError, match="undeclared"):
        read_export(arrays_to_bytes({**arrays, "pixels": np.zeros((2, 4, 4), np.uint8)}, metadata))
    with pytest.raises(EchoFedError, match="metadata"):
        read_export(arrays_to_bytes(arrays, {**metadata, "note": json.dumps("x")}))


def test_a_clip_needs_frames_and_a_sector_needs_pixels() -> None:
    with pytest.raises(EchoFedError) as caught:
        Clip(np.zeros((0, 4, 4), np.uint8), None, None, "k", "p")
    assert code_of(caught) is Code.FRAMES_MISSING
    with pytest.raises(EchoFedError) as caught:
        SectorMask(np.zeros((4, 4), bool), None, 1.0)
    assert code_of(caught) is Code.SECTOR_EMPTY


def test_a_fan_has_the_area_of_its_annular_sector() -> None:
    fan = Fan((10.0, 200.0), -40.0, 40.0, 20.0, 300.0)
    exact = np.deg2rad(80) / 2 * (300.0**2 - 20.0**2)
    assert fan.mask((400, 400)).sum() == pytest.approx(exact, rel=5e-3)
