from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
import torch

from shared.echo.features import FeatureExport
from shared.echo.ontology import load_ontology
from shared.errors import Code, EchoFedError
from shared.models.expert import FrozenExpert
from shared.settings import build_settings
from site_client.evaluate import open_expert
from site_client.extract import augmented_batches, extract
from site_client.frames import load_frames
from site_client.settings import ExpertSettings, ExtractSettings
from site_client.store import SiteStore
from site_client.training.expert import train_expert

SETTINGS = ExtractSettings(passes=2, batch_size=16, threads=1)


def trained(store: SiteStore, **changes: Any) -> FrozenExpert:
    small = {"backbone": "test_resnet", "image_size": 32, "epochs": 1, "threads": 1}
    settings = build_settings(ExpertSettings, small | changes)
    card = train_expert(
        store, ["demo"], settings, site="north", now=datetime(2026, 1, 1, tzinfo=UTC),
        report=lambda step: None,
    )  # fmt: skip
    return open_expert(store, card.id)


def export_of(
    store: SiteStore, expert: FrozenExpert, settings: ExtractSettings = SETTINGS
) -> FeatureExport:
    manifest = store.manifest("demo")
    return extract(store, manifest, expert, settings, policy_version=1, created="2026-01-01")


def test_export_holds_every_frame_once_and_training_frames_in_every_pass(
    striped_site: Any,
) -> None:
    store = striped_site()
    export = export_of(store, trained(store))
    frames = load_frames(store, ["demo"], image_size=32)
    num_train = len(frames.of_split("train"))
    assert (export.pass_N == 0).sum() == len(frames)
    assert [(export.pass_N == n).sum() for n in (1, 2)] == [num_train, num_train]
    plain = export.pass_N == 0
    assert set(export.frame_N[~plain]) == set(export.frame_N[plain & (export.split_N == 0)])
    assert export.card.dataset_hash == store.manifest("demo").content_hash()


def test_the_card_says_what_other_rules_out_and_the_head_has_a_place_for_it(
    striped_site: Any,
) -> None:
    store = striped_site({"4CH": ("A4C",), "2CH": ("A2C",), "rest": ("other",)})
    annotated = (*load_ontology().leaves("A4C"), *load_ontology().leaves("A2C"))
    folds = {"A5C": "4CH", "apex": "a label of which there is no clip"}
    manifest = replace(
        store.manifest("demo"), annotated=annotated, never_images=("SSN",), folds=folds
    )
    store.save_manifest(manifest)
    card = export_of(store, trained(store)).card
    assert (card.annotated, card.never_images) == (annotated, ("SSN",))
    assert card.folds == {"A5C": "4CH"}
    assert card.views == ("A4C", "A2C", "other")


def test_rows_are_what_the_expert_sees(striped_site: Any) -> None:
    store = striped_site()
    expert = trained(store)
    export = export_of(store, expert)
    frames = load_frames(store, ["demo"], image_size=32)
    image = torch.from_numpy(frames.pixels_NHW[5:6])[:, None].float()
    seen = expert.look((image - image.mean()) / image.std(correction=0))
    np.testing.assert_allclose(export.logits_NC[5], seen.logits_NC[0], atol=1e-4)
    np.testing.assert_allclose(export.discrepancy_NL[5], seen.discrepancy_NL[0], atol=1e-4)
    np.testing.assert_allclose(export.features_ND[5], seen.features_ND[0], atol=5e-3)


def test_exports_of_two_experts_join_by_frame_and_pass(striped_site: Any) -> None:
    store = striped_site()
    one = export_of(store, trained(store))
    other = export_of(store, trained(store, seed=11, rotation_deg=5.0, image_size=48))
    assert np.array_equal(one.frame_N, other.frame_N)
    assert np.array_equal(one.pass_N, other.pass_N)
    assert not np.array_equal(one.logits_NC, other.logits_NC)


def test_augmented_picture_is_the_same_whatever_the_batch(striped_site: Any) -> None:
    frames = load_frames(striped_site(), ["demo"], image_size=32)
    small = torch.cat(list(augmented_batches(frames, 1, 7)))
    large = torch.cat(list(augmented_batches(frames, 1, 64)))
    other = torch.cat(list(augmented_batches(frames, 2, 64)))
    torch.testing.assert_close(small, large)
    assert not torch.allclose(large, other)


def test_patients_and_clips_are_numbered_anew_but_grouped_as_before(striped_site: Any) -> None:
    store = striped_site()
    expert = trained(store)
    one, other = export_of(store, expert), export_of(store, expert)
    for name in ("patient_N", "clip_N"):
        ours, theirs = getattr(one, name), getattr(other, name)
        assert not np.array_equal(ours, theirs)
        assert len(set(zip(ours, theirs, strict=True))) == len(set(ours)) == len(set(theirs))


def test_frame_pseudonyms_depend_on_the_sites_key(striped_site: Any) -> None:
    store = striped_site()
    expert = trained(store)
    before = export_of(store, expert).frame_N
    (store.identity_folder / "pseudonym.key").unlink()
    store.create_key()
    assert not set(before) & set(export_of(store, expert).frame_N)


def test_features_that_are_not_finite_are_refused(striped_site: Any) -> None:
    store = striped_site()
    expert = trained(store)
    with torch.no_grad():
        next(iter(expert._model.parameters())).fill_(float("nan"))
    with pytest.raises(EchoFedError) as refusal:
        export_of(store, expert)
    assert refusal.value.code == Code.FEATURES_NOT_FINITE
