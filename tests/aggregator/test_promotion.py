"""Promotion and rollback on a centre whose bank holds exports of a Gaussian world."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from aggregator.centre import Centre, open_centre
from aggregator.fuse import choose, fuse
from aggregator.promotion import candidate_fusion, promote, register, registry_of, rollback
from aggregator.schema import Announcement
from aggregator.serving import promotions, serving_fusion
from aggregator.state import iso
from shared.errors import Code, EchoFedError
from shared.files import sha256_hex
from shared.testing.exports import GaussianWorld

NOW = datetime(2026, 11, 22, tzinfo=UTC)
WORLD = GaussianWorld({"north": ["A4C", "A2C"], "south": ["A4C", "PLAX"]}, num_clips=8)


def take_in(centre: Centre, site: str, experts: list[str]) -> None:
    """As the rounds do: announce, store and record."""
    name, content = f"{site}-echo", WORLD.content_hash(site)
    labels: dict[str, Any] = {view: [view] for view in WORLD.views[site]}
    centre.state.announce(
        site,
        [Announcement(site, name, content, "phantom", labels, {}, ["rows"], 1, iso(NOW))],
        now=NOW,
    )
    for expert in experts:
        data = WORLD.export(site, expert).to_bytes()
        centre.bank.add(data, WORLD.experts(), now=NOW)
        centre.ledger.append("export.arrived", {"sha256": sha256_hex(data)}, actor=site)


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[Centre]:
    config = tmp_path / "aggregator.yaml"
    settings = {"variants": ["sum", "attention"], "epochs": 2, "threads": 1}
    config.write_text(yaml.safe_dump({"fusion": settings}))
    opened = open_centre(config)
    for card in WORLD.experts().values():
        opened.state.add_expert(card, now=NOW)
    take_in(opened, "north", ["north", "south"])
    take_in(opened, "south", ["north", "south"])
    yield opened
    opened.state.close()


def made(centre: Centre, *, seed: int = 1) -> str:
    settings = centre.settings.model_copy(
        update={"fusion": centre.settings.fusion.model_copy(update={"seed": seed})}
    )
    seeded = Centre(centre.folder, settings, centre.state, centre.ledger, centre.bank)
    row = fuse(seeded, choose(seeded, ()), clock=lambda: NOW)
    register(seeded, row.id)
    return row.id


def test_a_fusion_of_the_bank_alone_names_every_dataset_as_cached(centre: Centre) -> None:
    row = centre.state.fusion(made(centre))
    assert row.report["cached"] == ["north/north-echo", "south/south-echo"]
    assert row.report["fresh"] == row.report["missing"] == []
    assert set(row.report["comparison"]) >= {"fused sum", "fused attention", "max logit"}


def test_the_same_recipe_is_not_trained_twice(centre: Centre) -> None:
    first = fuse(centre, choose(centre, ()), clock=lambda: NOW)
    again = fuse(centre, choose(centre, ()), clock=lambda: datetime.now(UTC))
    assert (again.id, again.trained) == (first.id, first.trained)


def test_registering_marks_the_datasets_as_fused_once(centre: Centre) -> None:
    first = made(centre)
    made(centre, seed=2)
    assert {row.fused_in for row in centre.state.announcements()} == {first}
    assert candidate_fusion(centre) != first


def test_promotion_and_rollback_agree_in_ledger_and_registry(centre: Centre) -> None:
    one, two = made(centre, seed=1), made(centre, seed=2)
    registry = registry_of(centre)
    promote(centre, one, actor="ada", reason="first")
    promote(centre, two, actor="ada", reason="better")
    promote(centre, two, actor="ada", reason="twice by mistake")
    assert promotions(centre.ledger) == (one, two)
    assert rollback(centre, actor="bo", reason="worse after all")[0] == one
    assert serving_fusion(centre.ledger) == one
    assert registry.current("serving")[0].id == one
    entry = list(centre.ledger.entries())[-1]
    assert (entry.actor, entry.body["reason"]) == ("bo", "worse after all")
    with pytest.raises(EchoFedError) as caught:
        rollback(centre, actor="bo", reason="none left")
    assert caught.value.code is Code.MODEL_UNKNOWN


def test_a_fusion_that_was_never_registered_cannot_serve(centre: Centre) -> None:
    row = fuse(centre, choose(centre, ()), clock=lambda: NOW)
    with pytest.raises(EchoFedError) as caught:
        promote(centre, row.id, actor="ada", reason="hurry")
    assert caught.value.code is Code.MODEL_UNKNOWN
