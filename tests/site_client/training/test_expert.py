from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import torch

from shared.echo.expert import ExpertCard, load_expert
from shared.echo.ontology import load_ontology
from shared.errors import Code, EchoFedError
from shared.models.backbone import classifier_of
from shared.models.expert import FrozenExpert
from shared.settings import build_settings
from site_client.settings import ExpertSettings
from site_client.store import SiteStore
from site_client.training.expert import train_expert
from site_client.training.loop import Step

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SMALL = {
    "backbone": "test_resnet", "image_size": 32, "epochs": 2, "batch_size": 8, "threads": 1,
}  # fmt: skip


class KilledError(Exception):
    """Stands for the end of the process."""


def run(
    store: SiteStore, *datasets: str, stop_at: int | None = None, **changes: Any
) -> tuple[ExpertCard, list[Step]]:
    steps: list[Step] = []

    def report(step: Step) -> None:
        steps.append(step)
        if step.done == stop_at:
            raise KilledError

    settings = build_settings(ExpertSettings, SMALL | changes)
    datasets = datasets or ("demo",)
    return train_expert(store, datasets, settings, site="north", now=NOW, report=report), steps


def test_card_says_what_the_expert_is(striped_site: Any) -> None:
    store = striped_site()
    card, _ = run(store)
    kept, weights = load_expert(store.expert_folder(card.id))
    assert kept == card
    assert card.views == ("A4C", "A2C")
    assert card.id == f"north-demo-{card.weights_sha256[:8]}"
    assert card.dataset_hashes == (store.manifest("demo").content_hash(),)
    look = FrozenExpert(card, weights).look(torch.randn(3, 1, 32, 32))
    assert look.features_ND.shape == (3, card.feature_width)
    assert look.discrepancy_NL.shape == (3, len(card.layers))


@pytest.mark.parametrize(
    "backbone", ["test_resnet", pytest.param("test_convnext", marks=pytest.mark.slow)]
)
def test_expert_learns_to_tell_stripes(striped_site: Any, backbone: str) -> None:
    store = striped_site()
    card, steps = run(store, backbone=backbone, epochs=8, batch_size=12, rotation_deg=10.0)
    assert card.metrics["val_balanced_accuracy"] >= 0.8
    assert steps[-1].loss < steps[0].loss


@pytest.mark.parametrize(("backbone", "stop_at"), [("test_resnet", 7), ("test_efficientnet", 8)])
def test_killed_run_ends_bit_for_bit_like_an_unbroken_one(
    striped_site: Any, backbone: str, stop_at: int
) -> None:
    store = striped_site()
    unbroken, _ = run(store, backbone=backbone, schedule="onecycle")
    with pytest.raises(KilledError):
        run(store, backbone=backbone, schedule="onecycle", stop_at=stop_at)
    resumed, steps = run(store, backbone=backbone, schedule="onecycle")
    assert steps[0].done == 7
    assert resumed.weights_sha256 == unbroken.weights_sha256
    assert resumed.metrics["val_loss"] == unbroken.metrics["val_loss"]
    assert not list((store.root / "runs").iterdir())


def test_other_seed_gives_another_expert(striped_site: Any) -> None:
    store = striped_site()
    ours, other = run(store, epochs=1)[0], run(store, epochs=1, seed=11)[0]
    assert ours.weights_sha256 != other.weights_sha256


def test_pooled_expert_has_the_views_of_all_datasets(striped_site: Any) -> None:
    striped_site({"4CH": ("A4C",), "2CH": ("A2C",)}, dataset="one")
    store = striped_site({"4CH": ("A4C",), "long": ("PLAX",)}, dataset="two")
    card, _ = run(store, "one", "two", epochs=1)
    assert set(card.views) == {"A4C", "A2C", "PLAX"}
    assert card.datasets == ("one", "two")
    assert len(card.dataset_hashes) == 2


@pytest.mark.parametrize("second", ["PLAX", "other"])
def test_fine_tuning_of_present_views_leaves_the_other_rows_alone(
    striped_site: Any, second: str
) -> None:
    """A second dataset's other may show the first one's A2C, but does not teach it."""
    striped_site({"4CH": ("A4C",), "2CH": ("A2C",)}, dataset="one")
    store = striped_site({"4CH": ("A4C",), "rest": (second,)}, dataset="two")
    annotated = load_ontology().leaves("A4C")
    store.save_manifest(replace(store.manifest("two"), annotated=annotated))
    parent, _ = run(store, "one", epochs=1)
    child, _ = run(store, "two", epochs=1, start_from=parent.id, restrict_to_present=True)
    assert child.parent == parent.id
    assert set(child.views) == {"A4C", "A2C", second}
    rows = {}
    for card in (parent, child):
        head = classifier_of(FrozenExpert(*load_expert(store.expert_folder(card.id)))._model)
        rows[card.id] = {view: head.weight[n] for n, view in enumerate(card.views)}  # type: ignore[index]
    assert torch.equal(rows[parent.id]["A2C"], rows[child.id]["A2C"])
    assert not torch.equal(rows[parent.id]["A4C"], rows[child.id]["A4C"])


def test_start_of_another_backbone_is_refused(striped_site: Any) -> None:
    store = striped_site()
    parent, _ = run(store, epochs=1)
    with pytest.raises(EchoFedError) as refusal:
        run(store, start_from=parent.id, backbone="test_efficientnet")
    assert refusal.value.code == Code.CONFIG_INVALID


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"start_from": "nobody"}, Code.EXPERT_UNKNOWN),
        ({"backbone": "test_resnett"}, Code.NAME_UNKNOWN),
        ({"learning_rate": 1e20}, Code.FEATURES_NOT_FINITE),
        ({"backmix": {"loss_lambda": 1.5}}, Code.CONFIG_INVALID),
    ],
)
def test_settings_that_cannot_work_are_refused(
    striped_site: Any, changes: dict[str, Any], code: Code
) -> None:
    with pytest.raises(EchoFedError) as refusal:
        run(striped_site(), **changes)
    assert refusal.value.code == code


def test_frames_without_masks_train_without_backmix_only(striped_site: Any) -> None:
    store = striped_site(masked=False)
    with pytest.raises(EchoFedError) as refusal:
        run(store)
    assert refusal.value.code == Code.SECTOR_EMPTY
    card, _ = run(store, epochs=1, backmix={"enabled": False})
    assert card.settings["backmix.enabled"] is False


def test_one_class_is_refused(striped_site: Any) -> None:
    with pytest.raises(EchoFedError) as refusal:
        run(striped_site({"4CH": ("A4C",)}))
    assert refusal.value.code == Code.ONE_CLASS_ONLY
