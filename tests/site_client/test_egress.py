"""The door: default deny, minimum counts, expiry; departures and refusals in the ledger."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.echo.features import FeatureExport, read_export
from shared.echo.manifest import DatasetManifest
from shared.echo.model_card import ModelCard
from shared.echo.statistics import StatisticsExport, read_statistics
from shared.errors import Code, EchoFedError
from shared.files import arrays_from_bytes, arrays_to_bytes, sha256_hex
from shared.ledger import Ledger
from shared.testing.beating import beating_clip
from shared.testing.segmenters import untrained_segmenter
from shared.testing.synthesizers import untrained_synthesizer
from site_client.condense import condense
from site_client.egress import Egress
from site_client.policy import DatasetPolicy, Policy, load_policy, save_policy

DRAWN = DatasetPolicy(
    purposes=("segmentation",), recipients=("echofed",), artefacts=("segmenter_weights",)
)
PAINTED = DatasetPolicy(
    purposes=("synthesis",), recipients=("echofed",), artefacts=("synthesizer_weights",)
)
CONSENT = DatasetPolicy(
    purposes=("fusion", "evaluation"), recipients=("echofed",), artefacts=("rows", "expert_weights")
)


def door(
    tmp_path: Path, consent: DatasetPolicy | None, recipient: str = "echofed"
) -> tuple[Egress, Ledger]:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    policy = Policy(datasets={"demo": consent} if consent else {})
    return Egress(policy, ledger, site="north", recipient=recipient), ledger


def test_what_may_leave_leaves_and_is_recorded_with_its_hash(
    tmp_path: Path, manifest: DatasetManifest, feature_export: FeatureExport
) -> None:
    egress, ledger = door(tmp_path, CONSENT)
    data = egress.release_export(feature_export, manifest)
    assert read_export(data).card.num_rows == feature_export.card.num_rows
    entry = next(ledger.entries())
    assert entry.kind == "egress.sent"
    assert entry.body["bytes"] == len(data)
    assert entry.body["subject"] == "demo"


@pytest.mark.parametrize(
    ("consent", "recipient", "code"),
    [
        (None, "echofed", Code.EGRESS_DENIED),
        (CONSENT, "elsewhere", Code.EGRESS_DENIED),
        (CONSENT.model_copy(update={"artefacts": ("statistics",)}), "echofed", Code.EGRESS_DENIED),
        (CONSENT.model_copy(update={"purposes": ("evaluation",)}), "echofed", Code.EGRESS_DENIED),
        (CONSENT.model_copy(update={"expires": date(2020, 1, 1)}), "echofed", Code.POLICY_EXPIRED),
        (
            CONSENT.model_copy(update={"minimum_patients_per_view": 50}),
            "echofed",
            Code.TOO_FEW_PATIENTS,
        ),
    ],
)
def test_everything_else_is_refused_and_recorded(
    tmp_path: Path,
    manifest: DatasetManifest,
    feature_export: FeatureExport,
    consent: DatasetPolicy | None,
    recipient: str,
    code: Code,
) -> None:
    egress, ledger = door(tmp_path, consent, recipient)
    with pytest.raises(EchoFedError) as caught:
        egress.release_export(feature_export, manifest)
    assert caught.value.code is code
    (entry,) = ledger.entries()
    assert (entry.kind, entry.body["code"]) == ("egress.refused", int(code))


def test_labels_of_too_few_patients_stay_at_the_site(
    tmp_path: Path, manifest: DatasetManifest, feature_export: FeatureExport
) -> None:
    rare = tuple(
        clip for clip in manifest.clips if clip.label == "4CH" or clip.patient == "patient1"
    )
    few = replace(manifest, clips=rare)
    export = replace(
        feature_export, card=replace(feature_export.card, dataset_hash=few.content_hash())
    )
    egress, _ = door(tmp_path, CONSENT)
    kept = read_export(egress.release_export(export, few))
    assert set(kept.label_N.tolist()) == {0}
    assert kept.card.num_rows == int((feature_export.label_N == 0).sum())
    assert kept.card.minimum_patients == CONSENT.minimum_patients_per_view
    assert egress.release_description(few)["patients"] == {"4CH": 18, "2CH": None}


def test_an_export_of_a_changed_dataset_or_a_foreign_word_is_refused(
    tmp_path: Path, manifest: DatasetManifest, feature_export: FeatureExport
) -> None:
    egress, _ = door(tmp_path, CONSENT)
    stale = replace(feature_export, card=replace(feature_export.card, dataset_hash="other"))
    with pytest.raises(EchoFedError, match="changed"):
        egress.release_export(stale, manifest)
    named = replace(feature_export, card=replace(feature_export.card, labels=("4CH", "DOE^JANE")))
    with pytest.raises(EchoFedError, match="vocabulary"):
        egress.release_export(named, manifest)


def test_the_record_of_other_views_leaves_in_words_of_the_ontology_alone(
    tmp_path: Path, manifest: DatasetManifest, feature_export: FeatureExport
) -> None:
    egress, _ = door(tmp_path, CONSENT)
    card = replace(
        feature_export.card, annotated=("A4C-full",), never_images=("SSN",), folds={"A5C": "4CH"}
    )
    sent = read_export(egress.release_export(replace(feature_export, card=card), manifest))
    assert sent.card == replace(card, minimum_patients=CONSENT.minimum_patients_per_view)
    for changes in (
        {"annotated": ("DOE^JANE",)},
        {"never_images": ("DOE^JANE",)},
        {"folds": {"DOE^JANE": "4CH"}},
        {"folds": {"A5C": "DOE^JANE"}},
    ):
        named = replace(feature_export, card=replace(feature_export.card, **changes))
        with pytest.raises(EchoFedError, match="vocabulary"):
            egress.release_export(named, manifest)


def test_features_that_are_not_finite_do_not_leave(
    tmp_path: Path, manifest: DatasetManifest, feature_export: FeatureExport
) -> None:
    broken = feature_export.features_ND.copy()
    broken[0, 0] = np.inf
    egress, ledger = door(tmp_path, CONSENT)
    with pytest.raises(EchoFedError) as caught:
        egress.release_export(replace(feature_export, features_ND=broken), manifest)
    assert caught.value.code is Code.FEATURES_NOT_FINITE
    assert [entry.kind for entry in ledger.entries()] == ["egress.refused"]


def test_metrics_leave_with_declared_fields_only(tmp_path: Path, manifest: DatasetManifest) -> None:
    egress, ledger = door(tmp_path, CONSENT)
    assert egress.release_metrics({"dataset": "demo", "macro_f1": 0.5}, manifest)["macro_f1"] == 0.5
    with pytest.raises(EchoFedError):
        egress.release_metrics({"dataset": "demo", "worst_clip": "clip7"}, manifest)
    assert [entry.kind for entry in ledger.entries()] == ["egress.sent", "egress.refused"]


def test_a_policy_reads_back_and_refuses_unknown_keys(tmp_path: Path) -> None:
    policy = Policy(datasets={"demo": CONSENT}, approved_bundles=("ab",), revision=3)
    save_policy(policy, tmp_path / "policy.yaml")
    assert load_policy(tmp_path / "policy.yaml") == policy
    (tmp_path / "policy.yaml").write_text("datasets: {demo: {minimum_patient_per_view: 1}}\n")
    with pytest.raises(EchoFedError) as caught:
        load_policy(tmp_path / "policy.yaml")
    assert caught.value.code is Code.CONFIG_UNKNOWN_KEY


STATISTICS_ONLY = CONSENT.model_copy(update={"artefacts": ("statistics",)})


def statistics_of(feature_export: FeatureExport, minimum: int = 5) -> StatisticsExport:
    """Of eighteen patients and both labels in every part, as the manifest has them."""
    num = 144
    generator = np.random.default_rng(0)
    patient_N = np.arange(num) // 8
    many = FeatureExport(
        replace(feature_export.card, num_rows=num),
        frame_N=np.arange(num, dtype=np.int64),
        patient_N=patient_N.astype(np.int32),
        clip_N=(np.arange(num) // 4).astype(np.int32),
        label_N=(np.arange(num) // 4 % 2).astype(np.int16),
        split_N=(patient_N % 3).astype(np.int8),
        pass_N=np.zeros(num, np.int8),
        features_ND=generator.normal(size=(num, 6)).astype(np.float16),
        logits_NC=generator.normal(size=(num, 2)).astype(np.float32),
        discrepancy_NL=generator.normal(size=(num, 3)).astype(np.float32),
    )
    return condense([many], minimum=minimum, created="2026-01-01")


def test_statistics_leave_where_rows_may_not(
    tmp_path: Path, manifest: DatasetManifest, feature_export: FeatureExport
) -> None:
    egress, ledger = door(tmp_path, STATISTICS_ONLY)
    data = egress.release_statistics(statistics_of(feature_export), manifest)
    assert read_statistics(data).moments.num_patients_SK.tolist() == [[6, 6], [6, 6]]
    with pytest.raises(EchoFedError) as caught:
        egress.release_export(feature_export, manifest)
    assert caught.value.code is Code.EGRESS_DENIED
    sent, refused = ledger.entries()
    assert (sent.kind, sent.body["artefact"]) == ("egress.sent", "statistics")
    assert sent.body["sha256"] == sha256_hex(data)
    assert (refused.kind, refused.body["artefact"]) == ("egress.refused", "rows")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"artefacts": ("rows",)}, Code.EGRESS_DENIED),
        ({"purposes": ("evaluation",)}, Code.EGRESS_DENIED),
        ({"expires": date(2020, 1, 1)}, Code.POLICY_EXPIRED),
        ({"minimum_patients_per_view": 7}, Code.TOO_FEW_PATIENTS),
    ],
)
def test_statistics_against_the_policy_are_refused_and_recorded(
    tmp_path: Path,
    manifest: DatasetManifest,
    feature_export: FeatureExport,
    changes: dict[str, object],
    code: Code,
) -> None:
    egress, ledger = door(tmp_path, STATISTICS_ONLY.model_copy(update=changes))
    with pytest.raises(EchoFedError) as caught:
        egress.release_statistics(statistics_of(feature_export), manifest)
    assert caught.value.code is code
    (entry,) = ledger.entries()
    assert (entry.kind, entry.body["artefact"]) == ("egress.refused", "statistics")


def test_statistics_of_a_label_that_the_manifest_has_too_few_of_are_refused(
    tmp_path: Path, manifest: DatasetManifest, feature_export: FeatureExport
) -> None:
    rare = tuple(c for c in manifest.clips if c.label == "4CH" or c.patient == "patient0")
    few = replace(manifest, clips=rare)
    told = statistics_of(feature_export)
    told = replace(told, card=replace(told.card, dataset_hash=few.content_hash()))
    egress, _ = door(tmp_path, STATISTICS_ONLY)
    with pytest.raises(EchoFedError) as caught:
        egress.release_statistics(told, few)
    assert caught.value.code is Code.TOO_FEW_PATIENTS


def test_statistics_of_a_changed_dataset_a_foreign_word_or_nothing_are_refused(
    tmp_path: Path, manifest: DatasetManifest, feature_export: FeatureExport
) -> None:
    egress, _ = door(tmp_path, STATISTICS_ONLY)
    told = statistics_of(feature_export)
    stale = replace(told, card=replace(told.card, dataset_hash="other"))
    with pytest.raises(EchoFedError, match="changed"):
        egress.release_statistics(stale, manifest)
    named = replace(told, card=replace(told.card, labels=("4CH", "DOE^JANE")))
    with pytest.raises(EchoFedError, match="vocabulary"):
        egress.release_statistics(named, manifest)
    with pytest.raises(EchoFedError) as caught:
        egress.release_statistics(statistics_of(feature_export, minimum=7), manifest)
    assert caught.value.code is Code.TOO_FEW_PATIENTS


def test_figures_leave_where_statistics_may(tmp_path: Path, manifest: DatasetManifest) -> None:
    egress, _ = door(tmp_path, STATISTICS_ONLY)
    assert egress.release_metrics({"dataset": "demo", "macro_f1": 0.5}, manifest)
    nothing = CONSENT.model_copy(update={"artefacts": ("expert_weights",)})
    with pytest.raises(EchoFedError) as caught:
        door(tmp_path, nothing)[0].release_metrics({"dataset": "demo"}, manifest)
    assert caught.value.code is Code.EGRESS_DENIED


def with_masks(manifest: DatasetManifest, num_patients: int) -> DatasetManifest:
    """The dataset with annotated clips of so many training patients."""
    drawn = sorted({clip.patient for clip in manifest.of_split("train")})[:num_patients]
    clips = (
        replace(clip, structures=("background", "lv")) if clip.patient in drawn else clip
        for clip in manifest.clips
    )
    return replace(manifest, clips=tuple(clips))


def release(
    egress: Egress, card: ModelCard, weights: bytes, manifests: Sequence[DatasetManifest]
) -> None:
    if card.kind == "segmenter":
        egress.release_segmenter(card, weights, manifests)
    else:
        egress.release_synthesizer(card, weights, manifests)


@pytest.fixture(params=["segmenter", "synthesizer"])
def model(request: pytest.FixtureRequest) -> tuple[ModelCard, bytes]:
    """A model of either kind of the dataset."""
    make: Any = untrained_segmenter if request.param == "segmenter" else untrained_synthesizer
    card, weights = make(1, dataset="demo")
    return card, weights


def consent_for(card: ModelCard) -> DatasetPolicy:
    return DRAWN if card.kind == "segmenter" else PAINTED


def test_a_model_leaves_where_every_dataset_consents(
    tmp_path: Path, manifest: DatasetManifest, model: tuple[ModelCard, bytes]
) -> None:
    card, weights = model
    egress, ledger = door(tmp_path, consent_for(card))
    release(egress, card, weights, [with_masks(manifest, 5)])
    (entry,) = ledger.entries()
    assert (entry.kind, entry.body["artefact"]) == ("egress.sent", f"{card.kind}_weights")
    assert (entry.body["subject"], entry.body["sha256"]) == (card.id, card.weights_sha256)


@pytest.mark.parametrize(
    ("changes", "num_patients", "code"),
    [
        ({"artefacts": ("rows", "expert_weights")}, 5, Code.EGRESS_DENIED),
        ({"purposes": ("fusion", "evaluation")}, 5, Code.EGRESS_DENIED),
        ({"recipients": ("elsewhere",)}, 5, Code.EGRESS_DENIED),
        ({"withdrawn": date(2026, 1, 1)}, 5, Code.DATASET_WITHDRAWN),
        ({"expires": date(2026, 1, 1)}, 5, Code.POLICY_EXPIRED),
        ({}, 4, Code.TOO_FEW_PATIENTS),
        ({}, 0, Code.TOO_FEW_PATIENTS),
    ],
)
def test_a_model_stays_otherwise(
    tmp_path: Path,
    manifest: DatasetManifest,
    model: tuple[ModelCard, bytes],
    changes: Any,
    num_patients: int,
    code: Code,
) -> None:
    egress, ledger = door(tmp_path, consent_for(model[0]).model_copy(update=changes))
    with pytest.raises(EchoFedError) as caught:
        release(egress, *model, [with_masks(manifest, num_patients)])
    (entry,) = ledger.entries()
    assert (caught.value.code, entry.kind) == (code, "egress.refused")


def test_consent_to_segmentation_is_none_to_synthesis(
    tmp_path: Path, manifest: DatasetManifest
) -> None:
    egress, _ = door(tmp_path, DRAWN)
    with pytest.raises(EchoFedError) as caught:
        release(egress, *untrained_synthesizer(1, dataset="demo"), [with_masks(manifest, 5)])
    assert caught.value.code is Code.EGRESS_DENIED


def test_a_model_of_a_dataset_that_is_gone_or_of_other_weights_stays(
    tmp_path: Path, manifest: DatasetManifest, model: tuple[ModelCard, bytes]
) -> None:
    card, weights = model
    egress, _ = door(tmp_path, consent_for(card))
    drawn = with_masks(manifest, 5)
    for manifests, data, code in (
        ([], weights, Code.EGRESS_DENIED),
        ([drawn], weights + b"0", Code.CHECKPOINT_CORRUPT),
    ):
        with pytest.raises(EchoFedError) as caught:
            release(egress, card, data, manifests)
        assert caught.value.code is code


@pytest.mark.parametrize("figures", [{}, {"fewest_patients": 4.0}])
def test_a_synthesizer_of_fewer_labelled_patients_than_its_dataset_has_stays(
    tmp_path: Path, manifest: DatasetManifest, figures: dict[str, float]
) -> None:
    card, weights = untrained_synthesizer(1, dataset="demo", metrics=figures)
    egress, ledger = door(tmp_path, PAINTED)
    with pytest.raises(EchoFedError) as caught:
        egress.release_synthesizer(card, weights, [with_masks(manifest, 5)])
    (entry,) = ledger.entries()
    assert (caught.value.code, entry.kind) == (Code.TOO_FEW_PATIENTS, "egress.refused")


@pytest.mark.parametrize("name", ["frames", "gallery.frames"])
def test_a_synthesizer_with_frames_among_its_weights_stays(
    tmp_path: Path, manifest: DatasetManifest, name: str
) -> None:
    card, weights = untrained_synthesizer(1, dataset="demo")
    arrays, _ = arrays_from_bytes(weights)
    spoilt = arrays_to_bytes(arrays | {name: np.zeros((2, 8, 8), np.uint8)}, {})
    egress, ledger = door(tmp_path, PAINTED)
    with pytest.raises(EchoFedError) as caught:
        egress.release_synthesizer(
            replace(card, weights_sha256=sha256_hex(spoilt)), spoilt, [with_masks(manifest, 5)]
        )
    (entry,) = ledger.entries()
    assert (caught.value.code, entry.kind) == (Code.EGRESS_DENIED, "egress.refused")


MAPS = np.arange(2 * 6 * 5, dtype=np.uint8).reshape(2, 6, 5) % 3
MASKS_GO = DatasetPolicy(purposes=("synthesis",), recipients=("echofed",), artefacts=("masks",))


def map_door(tmp_path: Path, consent: DatasetPolicy, *services: str) -> tuple[Egress, Ledger]:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    policy = Policy(datasets={"demo": consent}, services=services)
    return Egress(policy, ledger, site="north", recipient="echofed"), ledger


def test_label_maps_go_to_a_named_service_and_are_recorded_without_keys(
    tmp_path: Path, manifest: DatasetManifest
) -> None:
    egress, ledger = map_door(tmp_path, MASKS_GO, "synthesis")
    clips = manifest.of_split("train")
    egress.release_maps("synthesis", MAPS, manifest, clips)
    (entry,) = ledger.entries()
    assert (entry.kind, entry.body["artefact"], entry.body["subject"]) == (
        "egress.sent", "masks", "demo",
    )  # fmt: skip
    assert entry.body["sha256"] == sha256_hex(MAPS.tobytes())
    assert not any(clip.patient in str(entry.body) for clip in clips)


@pytest.mark.parametrize(
    ("changes", "services", "num_patients", "code"),
    [
        ({}, (), 9, Code.EGRESS_DENIED),
        ({}, ("segmentation",), 9, Code.EGRESS_DENIED),
        ({"artefacts": ("synthesizer_weights",)}, ("synthesis",), 9, Code.EGRESS_DENIED),
        ({"purposes": ("segmentation",)}, ("synthesis",), 9, Code.EGRESS_DENIED),
        ({"recipients": ("elsewhere",)}, ("synthesis",), 9, Code.EGRESS_DENIED),
        ({"expires": date(2026, 1, 1)}, ("synthesis",), 9, Code.POLICY_EXPIRED),
        ({"withdrawn": date(2026, 1, 1)}, ("synthesis",), 9, Code.DATASET_WITHDRAWN),
        ({}, ("synthesis",), 4, Code.TOO_FEW_PATIENTS),
        ({}, ("synthesis",), 0, Code.TOO_FEW_PATIENTS),
    ],
)
def test_label_maps_stay_otherwise(
    tmp_path: Path,
    manifest: DatasetManifest,
    changes: Any,
    services: tuple[str, ...],
    num_patients: int,
    code: Code,
) -> None:
    egress, ledger = map_door(tmp_path, MASKS_GO.model_copy(update=changes), *services)
    patients = sorted({clip.patient for clip in manifest.of_split("train")})[:num_patients]
    clips = [clip for clip in manifest.of_split("train") if clip.patient in patients]
    with pytest.raises(EchoFedError) as caught:
        egress.release_maps("synthesis", MAPS, manifest, clips)
    (entry,) = ledger.entries()
    told = (caught.value.code, entry.kind, entry.body["artefact"], entry.body["code"])
    assert told == (code, "egress.refused", "masks", int(code))


def test_pixels_go_to_a_service_that_the_policy_names_and_to_no_other(tmp_path: Path) -> None:
    clip = beating_clip(2)
    ledger = Ledger(tmp_path / "ledger.sqlite")
    named = Policy(services=("segmentation",))
    Egress(named, ledger, site="north", recipient="echofed").release_pixels("segmentation", clip)
    for policy, service in ((Policy(), "segmentation"), (named, "synthesis")):
        with pytest.raises(EchoFedError) as caught:
            Egress(policy, ledger, site="north", recipient="echofed").release_pixels(service, clip)
        assert caught.value.code is Code.EGRESS_DENIED
    sent, *refused = ledger.entries()
    assert (sent.kind, sent.body["artefact"]) == ("egress.sent", "pixels")
    assert sent.body["sha256"] == sha256_hex(clip.pixels_THW.tobytes())
    assert [entry.kind for entry in refused] == ["egress.refused", "egress.refused"]
    assert clip.patient not in str([sent.body, *(entry.body for entry in refused)])
