"""Experts on a shared trunk, from settings to exports, on stripes."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
import torch

from shared.echo.expert import ExpertCard, load_expert, save_checkpoint
from shared.errors import Code, EchoFedError
from shared.settings import build_settings
from site_client.evaluate import open_expert, open_experts
from site_client.extract import extract, extract_together
from site_client.settings import ExpertSettings, ExtractSettings
from site_client.store import SiteStore
from site_client.training.expert import train_expert
from site_client.training.loop import Step

SMALL = {
    "backbone": "test_resnet", "image_size": 32, "epochs": 1, "batch_size": 12, "threads": 1,
    "rotation_deg": 10.0,
}  # fmt: skip
EXTRACT = ExtractSettings(passes=1, batch_size=16, threads=1)


class KilledError(Exception):
    """Stands for the end of the process."""


def run(
    store: SiteStore, dataset: str = "demo", stop_at: int | None = None, **changes: Any
) -> ExpertCard:
    settings = build_settings(ExpertSettings, SMALL | changes)
    now = datetime(2026, 1, 1, tzinfo=UTC)

    def report(step: Step) -> None:
        if step.done == stop_at:
            raise KilledError

    return train_expert(store, [dataset], settings, site="north", now=now, report=report)


def code_of(call: Any, *args: Any, **kwargs: Any) -> Code:
    with pytest.raises(EchoFedError) as refusal:
        call(*args, **kwargs)
    return refusal.value.code


def test_adapter_learns_in_seconds_what_its_trunk_never_saw(striped_site: Any) -> None:
    striped_site({"4CH": ("A4C",), "2CH": ("A2C",)}, dataset="one")
    store = striped_site({"LAX": ("PLAX",), "SAX": ("PSAX-PM",)}, dataset="two")
    trunk = run(store, "one", epochs=4)
    card = run(store, "two", trunk=trunk.id, epochs=10, learning_rate=0.003)
    assert card.metrics["val_balanced_accuracy"] >= 0.8
    assert card.views == ("PLAX", "PSAX-PM")
    assert (card.trunk, card.trunk_sha256) == (trunk.id, trunk.weights_sha256)
    assert card.parent == trunk.id
    assert load_expert(store.expert_folder(card.id))[0] == card


def test_old_export_of_the_trunk_stays_valid_bit_for_bit(striped_site: Any) -> None:
    store = striped_site()
    trunk = run(store)
    manifest = store.manifest("demo")
    files = {path: path.read_bytes() for path in store.expert_folder(trunk.id).iterdir()}

    def export(*names: str) -> list[Any]:
        experts = open_experts(store, names)
        return extract_together(
            store, manifest, experts, EXTRACT, policy_version=1, created="2026-01-01"
        )

    (before,) = export(trunk.id)
    card = run(store, trunk=trunk.id)
    alone = extract(
        store, manifest, open_expert(store, card.id), EXTRACT, policy_version=1, created=""
    )
    together = export(trunk.id, card.id)
    assert all(path.read_bytes() == data for path, data in files.items())
    for one, other in ((before, together[0]), (alone, together[1])):
        for name in ("frame_N", "features_ND", "logits_NC", "discrepancy_NL"):
            assert np.array_equal(getattr(one, name), getattr(other, name))
    assert together[1].card.expert == card.id


def test_a_seed_gives_one_adapter_also_to_a_run_that_was_killed(striped_site: Any) -> None:
    store = striped_site()
    trunk = run(store)
    unbroken = run(store, trunk=trunk.id, epochs=2).weights_sha256
    with pytest.raises(KilledError):
        run(store, trunk=trunk.id, epochs=2, stop_at=6)
    assert run(store, trunk=trunk.id, epochs=2).weights_sha256 == unbroken
    assert run(store, trunk=trunk.id, epochs=2, seed=11).weights_sha256 != unbroken


def test_expert_whose_trunk_is_gone_is_refused(striped_site: Any) -> None:
    store = striped_site()
    trunk = run(store)
    card = run(store, trunk=trunk.id)
    store.remove_expert(trunk.id)
    with pytest.raises(EchoFedError, match=trunk.id) as refusal:
        open_expert(store, card.id)
    assert refusal.value.code is Code.EXPERT_UNKNOWN
    assert code_of(run, store, trunk=trunk.id) is Code.EXPERT_UNKNOWN


def test_trunks_that_stand_on_each_other_are_refused(striped_site: Any) -> None:
    store = striped_site()
    trunk = run(store)
    card = run(store, trunk=trunk.id)
    for one, other in ((trunk, card), (card, trunk)):
        _, weights = load_expert(store.expert_folder(one.id))
        changed = replace(one, trunk=other.id, trunk_sha256=other.weights_sha256)
        save_checkpoint(store.expert_folder(one.id), changed, weights)
    assert code_of(open_expert, store, card.id) is Code.EXPERT_UNKNOWN


def test_trunk_that_does_not_fit_is_refused(striped_site: Any) -> None:
    store = striped_site()
    trunk = run(store)
    card = run(store, trunk=trunk.id)
    for wrong in (
        {"trunk": trunk.id, "start_from": trunk.id},
        {"trunk": card.id},
        {"start_from": card.id},
        {"trunk": trunk.id, "image_size": 48},
        {"trunk": trunk.id, "backbone": "test_efficientnet"},
    ):
        assert code_of(run, store, **wrong) is Code.CONFIG_INVALID


def test_a_trunk_is_opened_once_for_all_that_stand_on_it(striped_site: Any) -> None:
    store = striped_site()
    trunk = run(store)
    names = [run(store, trunk=trunk.id, seed=seed).id for seed in (10, 11)]
    experts = open_experts(store, [*names, trunk.id])
    assert len({expert.encoder for expert in experts}) == 1
    frames = torch.randn(2, 1, 32, 32)
    for expert, name in zip(experts, names, strict=False):
        assert torch.equal(
            expert.look(frames).logits_NC, open_expert(store, name).look(frames).logits_NC
        )
