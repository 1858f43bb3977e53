"""Promotion and rollback on a centre whose bank holds exports of a Gaussian world."""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from aggregator.centre import Centre, open_centre
from aggregator.change_control import assess
from aggregator.fuse import choose, fuse
from aggregator.promotion import candidate_fusion, promote, register, registry_of, rollback
from aggregator.schema import Announcement, Fusion
from aggregator.serving import left_serving, promotions, serving_fusion
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


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A centre with two registered fusions, made once."""
    folder = tmp_path_factory.mktemp("prepared")
    settings = {"variants": ["sum", "attention"], "epochs": 2, "threads": 1}
    (folder / "aggregator.yaml").write_text(yaml.safe_dump({"fusion": settings}))
    opened = open_centre(folder / "aggregator.yaml")
    for card in WORLD.experts().values():
        opened.state.add_expert(card, now=NOW)
    take_in(opened, "north", ["north", "south"])
    take_in(opened, "south", ["north", "south"])
    for seed in (1, 2):
        register(opened, trained(opened, seed=seed).id)
    opened.state.close()
    return folder


@pytest.fixture
def centre(tmp_path: Path, prepared: Path) -> Iterator[Centre]:
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    opened = open_centre(tmp_path / "aggregator.yaml")
    yield opened
    opened.state.close()


@pytest.fixture
def ids(centre: Centre) -> tuple[str, str]:
    """The two fusions in the order they were registered."""
    rows = sorted(centre.state.fusions(), key=lambda row: int(row.model_version))
    return rows[0].id, rows[1].id


def trained(centre: Centre, *, seed: int) -> Fusion:
    settings = centre.settings.model_copy(
        update={"fusion": centre.settings.fusion.model_copy(update={"seed": seed})}
    )
    seeded = Centre(centre.folder, settings, centre.state, centre.ledger, centre.bank)
    return fuse(seeded, choose(seeded, ()), clock=lambda: NOW)


def test_a_fusion_of_the_bank_alone_names_every_dataset_as_cached(centre: Centre) -> None:
    row = centre.state.fusions()[0]
    assert row.report["cached"] == ["north/north-echo", "south/south-echo"]
    assert row.report["fresh"] == row.report["missing"] == []
    assert set(row.report["comparison"]) >= {"fused sum", "fused attention", "max logit"}


def test_the_same_recipe_is_not_trained_twice(centre: Centre) -> None:
    first = trained(centre, seed=1)
    assert first.id in {row.id for row in centre.state.fusions()}
    assert len(centre.state.fusions()) == 2
    assert first.trained == iso(NOW)


def test_registering_again_keeps_the_version_and_writes_no_second_entry(
    centre: Centre, ids: tuple[str, str]
) -> None:
    before = centre.ledger.head()
    assert register(centre, ids[0]) == centre.state.fusion(ids[0]).model_version
    assert centre.ledger.head() == before


def test_registering_marks_the_datasets_as_fused_once(centre: Centre, ids: tuple[str, str]) -> None:
    assert {row.fused_in for row in centre.state.announcements()} == {ids[0]}
    assert candidate_fusion(centre) == ids[1]


def test_promotion_and_rollback_agree_in_ledger_and_registry(
    centre: Centre, ids: tuple[str, str]
) -> None:
    promote(centre, assess(centre, ids[0]), actor="ada", reason="first")
    promote(centre, assess(centre, ids[1]), actor="ada", reason="better")
    promote(centre, assess(centre, ids[1]), actor="ada", reason="twice by mistake")
    assert promotions(centre.ledger) == ids
    assert rollback(centre, actor="bo", reason="worse after all")[0] == ids[0]
    assert serving_fusion(centre.ledger) == ids[0]
    assert registry_of(centre).current("serving")[0].id == ids[0]
    entry = list(centre.ledger.entries())[-1]
    assert (entry.actor, entry.body["reason"]) == ("bo", "worse after all")
    with pytest.raises(EchoFedError) as caught:
        rollback(centre, actor="bo", reason="none left")
    assert caught.value.code is Code.MODEL_UNKNOWN


@pytest.mark.parametrize(
    ("served", "gone", "left"),
    [
        ("ab", "b", ""),  # an older one does not step in by itself
        ("abc", "b", "ac"),
        ("aba", "b", "a"),
        ("ab", "x", "ab"),
        ("", "a", ""),
    ],
)
def test_what_is_left_after_a_withdrawal_is_decided_by_what_serves(
    served: str, gone: str, left: str
) -> None:
    assert left_serving(list(served), list(gone)) == list(left)


def test_a_fusion_that_was_never_registered_cannot_serve(centre: Centre) -> None:
    row = trained(centre, seed=3)
    with pytest.raises(EchoFedError) as caught:
        promote(centre, assess(centre, row.id), actor="ada", reason="hurry")
    assert caught.value.code is Code.MODEL_UNKNOWN
