"""A withdrawn dataset was never there: purge, fusion of what remains, certificate, killed runs."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from aggregator.audit import expect_purged, verify
from aggregator.centre import Centre, alone, open_centre
from aggregator.change_control import assess
from aggregator.fuse import choose, fuse
from aggregator.impact import find_impact
from aggregator.model_registry import ModelRegistry
from aggregator.promotion import promote, register, registry_of, rollback
from aggregator.schema import Announcement, Evaluation
from aggregator.serving import WITHDRAWN, serving_fusion
from aggregator.state import State, iso
from aggregator.withdrawal import withdraw
from shared.echo.expert import ExpertCard, FusionVariant, load_fusion, save_checkpoint
from shared.errors import Code, EchoFedError
from shared.files import arrays_from_bytes, sha256_hex, write_bytes
from shared.ledger import Ledger
from shared.testing.exports import GaussianWorld
from site_client.condense import condense

NOW = datetime(2026, 11, 22, tzinfo=UTC)
WORLD = GaussianWorld(
    {"north": ["A4C", "A2C"], "east": ["A2C", "PLAX"], "south": ["A4C", "PLAX"]},
    num_clips=8,
    feature_width=16,
)
EAST = "east/east-echo"


def furnish(
    folder: Path,
    sites: Sequence[str],
    *,
    variant: FusionVariant = "ridge",
    parents: dict[str, str] | None = None,
    world: GaussianWorld = WORLD,
) -> Centre:
    """A centre whose bank holds what every site's expert saw in every site, and its fusion."""
    folder.mkdir(exist_ok=True)
    settings = {"variants": [variant], "epochs": 2, "threads": 1}
    (folder / "aggregator.yaml").write_text(yaml.safe_dump({"fusion": settings}))
    centre = open_centre(folder / "aggregator.yaml")
    known = {site: world.expert(site) for site in sites}
    for site, parent in (parents or {}).items():
        known[site] = replace(known[site], parent=known[parent].id if parent in known else parent)
    cards = {card.id: card for card in known.values()}
    for site, card in known.items():
        add_expert(centre, card)
        labels: dict[str, Any] = {view: [view] for view in world.views[site]}
        row = Announcement(
            site, f"{site}-echo", world.content_hash(site), "phantom", labels, {}, ["rows"], 1,
            iso(NOW),
        )  # fmt: skip
        centre.state.announce(site, [row], now=NOW)
    for site in sites:
        for expert in sites:
            data = world.export(site, expert).to_bytes()
            centre.bank.add(data, cards, now=NOW)
            centre.ledger.append("export.arrived", {"sha256": sha256_hex(data)}, actor=site)
    fuse(centre, choose(centre, ()), clock=lambda: NOW)
    return centre


def add_expert(centre: Centre, card: ExpertCard) -> None:
    weights = f"weights {card.site} {card.seed}".encode()
    save_checkpoint(centre.expert_folder(card.id), card, weights)
    centre.state.add_expert(card, now=NOW)
    centre.ledger.append("expert.arrived", {"sha256": card.weights_sha256}, actor=card.site)


def take_back(centre: Centre, dataset: str = EAST, **wishes: Any) -> dict[str, Any]:
    return withdraw(centre, dataset, actor="ada", clock=lambda: NOW, **wishes)


def refused(call: Callable[[], Any]) -> EchoFedError:
    with pytest.raises(EchoFedError) as caught:
        call()
    return caught.value


def files_of(root: Path) -> dict[str, bytes]:
    """Bank and checkpoints; cards tell the parent fusion, in which two histories may differ."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for kind in ("bank", "experts", "fusions")
        for path in (root / kind).rglob("*")
        if path.is_file() and path.name not in ("card.json", "index.json")
    }


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a centre with a fusion of three sites, made once."""
    folder = tmp_path_factory.mktemp("furnished")
    furnish(folder, ("north", "east", "south")).state.close()
    return folder


@pytest.fixture
def centre(tmp_path: Path, furnished: Path) -> Iterator[Centre]:
    opened = copy_of(furnished, tmp_path / "centre")
    yield opened
    opened.state.close()


def copy_of(folder: Path, to: Path) -> Centre:
    shutil.copytree(folder, to)
    return open_centre(to / "aggregator.yaml")


@pytest.mark.parametrize("variant", ["sum", "attention", "discrepancy", "ridge", "blend"])
def test_the_new_fusion_is_bit_for_bit_that_of_a_centre_that_never_held_the_dataset(
    tmp_path: Path, variant: FusionVariant
) -> None:
    with_east = furnish(tmp_path / "with", ("north", "east", "south"), variant=variant)
    report = take_back(with_east)
    never = furnish(tmp_path / "never", ("north", "south"), variant=variant)
    (row,), (other,) = with_east.state.fusions(), never.state.fusions()
    assert (row.id, row.recipe, row.datasets) == (other.id, other.recipe, other.datasets)
    assert files_of(with_east.folder) == files_of(never.folder)
    assert row.report == other.report
    assert report["certificate"]["exact"]
    assert report["certificate"]["fusion"]["id"] == other.id


def test_ridge_gives_the_weights_of_never_having_joined_to_1e_8(
    centre: Centre, tmp_path: Path
) -> None:
    fused = take_back(centre)["after"]["fusion"]
    never = furnish(tmp_path / "never", ("south", "north"))  # and in another order
    mine, _ = arrays_from_bytes(load_fusion(centre.fusion_folder(fused))[1])
    theirs, _ = arrays_from_bytes(load_fusion(never.fusion_folder(never.state.fusions()[0].id))[1])
    assert mine.keys() == theirs.keys()
    for name, values in mine.items():
        assert np.abs(values - theirs[name]).max() < 1e-8


@pytest.mark.parametrize("variant", ["sum", "ridge"])
def test_what_a_fusion_carries_of_the_dataset_goes_with_it(
    tmp_path: Path, variant: FusionVariant
) -> None:
    """With enough patients for means; the certificate names the weights that held them."""
    world = replace(WORLD, num_clips=12)
    centre = furnish(tmp_path / "with", ("north", "east", "south"), variant=variant, world=world)
    before, _ = load_fusion(centre.fusion_folder(centre.state.fusions()[0].id))
    assert EAST in {one.dataset for one in before.carries}
    report = take_back(centre)
    never = furnish(tmp_path / "never", ("north", "south"), variant=variant, world=world)
    (row,), (other,) = centre.state.fusions(), never.state.fusions()
    mine, theirs = (
        load_fusion(one.fusion_folder(of.id)) for one, of in ((centre, row), (never, other))
    )
    assert [one.dataset for one in mine[0].carries] == ["north/north-echo", "south/south-echo"]
    assert (mine[0].carries, mine[1]) == (theirs[0].carries, theirs[1])
    assert not any("east" in name for name in arrays_from_bytes(mine[1])[0])
    assert before.weights_sha256 in report["certificate"]["purged_fusions"].values()


def test_a_fusion_of_statistics_alone_goes_with_one_of_its_experts(centre: Centre) -> None:
    sites = ("north", "east", "south")
    centre.bank.remove({entry.sha256 for entry in centre.bank.entries()})
    for site in ("north", "south"):
        told = condense([WORLD.export(site, one) for one in sites], minimum=2, created=iso(NOW))
        centre.bank.statistics.add(told.to_bytes(), WORLD.experts(), now=NOW)
    fused = fuse(centre, choose(centre, ()), clock=lambda: NOW)
    assert EAST not in fused.datasets
    assert fused.id in {one.fusion for one in find_impact(centre, EAST).fusions}


def test_rows_files_and_figures_of_the_dataset_are_gone(centre: Centre) -> None:
    before = centre.state.fusions()[0]
    figures = Evaluation(before.id, "north", "north-echo", "h", {"macro_f1": 0.5}, iso(NOW))
    centre.state.add_evaluation(figures)
    expert = WORLD.expert("east").id
    stray = centre.fusion_folder("fusion-of-a-run-that-died") / "weights.safetensors"
    write_bytes(stray, b"of what?")
    write_bytes(centre.folder / "bank" / f"{'0' * 64}.safetensors", b"of what?")
    report = take_back(centre)
    assert len(report["impact"]["exports"]) == 5
    assert {e.card.site for e in centre.bank.entries()} == {"north", "south"}
    assert expert not in {e.card.expert for e in centre.bank.entries()}
    assert centre.bank.files() == {e.sha256 for e in centre.bank.entries()}
    assert not centre.expert_folder(expert).exists()
    assert [path.name for path in (centre.folder / "fusions").iterdir()] == [
        report["after"]["fusion"]
    ]
    assert EAST not in {f"{row.site}/{row.dataset}" for row in centre.state.announcements()}
    assert centre.state.evaluations(before.id) == ()
    assert {row.id for row in centre.state.experts()} == {
        WORLD.expert(site).id for site in ("north", "south")
    }


def test_the_report_compares_the_other_datasets_and_the_certificate_names_all_hashes(
    centre: Centre,
) -> None:
    gone = [e.sha256 for e in centre.bank.entries() if "east" in (e.card.site + e.card.expert)]
    before = centre.state.fusions()[0].id
    report = take_back(centre)
    for side in ("before", "after"):
        assert set(report[side]["macro_f1"]) == {"north/north-echo", "south/south-echo"}
    (entry,) = [one for one in centre.ledger.entries() if one.kind == WITHDRAWN]
    assert entry.leaf == report["certificate"]["leaf"]
    assert entry.actor == "ada"
    assert entry.body["purged_exports"] == sorted(gone)
    assert list(entry.body["purged_fusions"]) == [before]
    assert entry.body["remaining_exports"] == sorted(centre.bank.files())
    card, _ = load_fusion(centre.fusion_folder(report["after"]["fusion"]))
    assert entry.body["fusion"]["sha256"] == card.weights_sha256
    assert centre.state.withdrawals()[0].outcome["certificate"] == report["certificate"]


def test_descendants_go_too_and_their_site_is_told_to_start_from_scratch(tmp_path: Path) -> None:
    centre = furnish(tmp_path, ("north", "east", "south"), parents={"south": "east"})
    report = take_back(centre)
    assert [row.site for row in centre.state.experts()] == ["north"]
    assert {e.card.expert for e in centre.bank.entries()} == {WORLD.expert("north").id}
    assert report["certificate"]["exact"]
    assert "site south must train from scratch again on south-echo" in report["afterwards"]


def test_descendants_may_stay_but_then_it_is_not_exact(tmp_path: Path) -> None:
    centre = furnish(tmp_path, ("north", "east", "south"), parents={"south": "east"})
    certificate = take_back(centre, keep_descendants=True)["certificate"]
    assert not certificate["exact"]
    assert WORLD.expert("south").id in certificate["not_exact_because"][0]
    assert {row.site for row in centre.state.experts()} == {"north", "south"}


def test_an_expert_of_unknown_parents_makes_it_inexact(tmp_path: Path) -> None:
    centre = furnish(tmp_path, ("north", "east"), parents={"north": "never-seen-here"})
    certificate = take_back(centre)["certificate"]
    assert not certificate["exact"]
    assert "unknown" in certificate["not_exact_because"][0]


def test_ancestors_that_were_withdrawn_earlier_are_still_known(tmp_path: Path) -> None:
    parents = {"south": "east", "east": "north"}
    centre = furnish(tmp_path, ("north", "east", "south"), parents=parents)
    take_back(centre, keep_descendants=True)
    impact = find_impact(centre, "north/north-echo")
    assert {one.site for one in impact.experts} == {"north", "south"}
    assert impact.untraced == ()


def test_the_last_dataset_can_go_and_nothing_is_fused(centre: Centre) -> None:
    for site in ("north", "east"):
        take_back(centre, f"{site}/{site}-echo")
    report = take_back(centre, "south/south-echo")
    assert report["after"]["fusion"] == ""
    assert "nothing is left" in report["why_none"]
    assert report["certificate"]["exact"]
    assert centre.bank.entries() == ()
    assert centre.state.fusions() == ()


def test_fewer_than_two_views_are_not_fused(tmp_path: Path) -> None:
    world = GaussianWorld({"north": ["A4C"], "east": ["A2C", "PLAX"]}, num_clips=8, feature_width=8)
    report = take_back(furnish(tmp_path, ("north", "east"), world=world))
    assert "fewer than two views" in report["why_none"]
    assert report["certificate"]["exact"]


def test_a_dataset_that_nothing_holds_any_more_leaves_the_fusion_alone(centre: Centre) -> None:
    row = Announcement("west", "new", "h", "phantom", {"a": ["A4C"]}, {}, ["rows"], 1, iso(NOW))
    centre.state.announce("west", [row], now=NOW)
    fusions = centre.state.fusions()
    assert take_back(centre, "west/new")["why_none"] == "no fusion held it"
    assert centre.state.fusions() == fusions


def test_unknown_and_repeated_withdrawals_are_refused(centre: Centre) -> None:
    unknown = refused(lambda: take_back(centre, "east/east-ecko"))
    assert unknown.code is Code.DATASET_UNKNOWN
    assert EAST in unknown.hint
    take_back(centre)
    head = centre.ledger.head()
    assert refused(lambda: take_back(centre)).code is Code.NOTHING_TO_DO
    assert centre.ledger.head() == head


def test_it_waits_for_an_increment_that_runs(centre: Centre) -> None:
    with alone(centre):
        assert refused(lambda: take_back(centre)).code is Code.RUN_FAILED
    assert centre.state.withdrawals() == ()


class Cut(Exception):
    """The power goes."""


CHANGES: tuple[tuple[Any, str], ...] = (
    (os, "replace"),
    (Path, "unlink"),
    (shutil, "rmtree"),
    (Ledger, "append"),
    (State, "begin_withdrawal"),
    (State, "add_fusion"),
    (State, "finish_withdrawal"),
)


@contextmanager
def power_cut(monkeypatch: pytest.MonkeyPatch, step: int) -> Iterator[list[int]]:
    """Fail at the given change of disk, ledger or state, and tell how many were tried."""
    made: list[int] = []

    def failing(change: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            made.append(1)
            if len(made) == step + 1:
                raise Cut
            return change(*arguments, **options)

        return wrapped

    with monkeypatch.context() as patch:
        for owner, name in CHANGES:
            patch.setattr(owner, name, failing(getattr(owner, name)))
        yield made


def test_cut_off_at_any_step_it_is_finished_by_running_it_again(
    furnished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = copy_of(furnished, tmp_path / "whole")
    with power_cut(monkeypatch, 10_000) as steps:
        expected = take_back(whole)["certificate"]
    # begin 2, index and exports 6, two folders, fusion 3, certificate and end 2
    assert len(steps) == 15
    for step in range(len(steps)):
        cut = copy_of(furnished, tmp_path / f"cut{step}")
        with power_cut(monkeypatch, step), pytest.raises(Cut):
            take_back(cut)
        found = take_back(cut)["certificate"]
        assert files_of(cut.folder) == files_of(whole.folder)
        assert {name: found[name] for name in PROMISED} == {n: expected[n] for n in PROMISED}
        assert [entry.kind for entry in cut.ledger.entries()].count(WITHDRAWN) == 1
        assert cut.state.withdrawals()[0].status == "finished"
        cut.state.close()
    whole.state.close()


PROMISED = ("purged_exports", "purged_experts", "purged_fusions", "remaining_exports", "fusion")


def test_what_served_serves_no_more_until_a_person_promotes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    centre = furnish(tmp_path, ("north", "east", "south"))
    (first,) = centre.state.fusions()
    register(centre, first.id)
    promote(centre, assess(centre, first.id), actor="ada", reason="first")
    registry = registry_of(centre)
    with monkeypatch.context() as patch:
        patch.setattr(ModelRegistry, "_erase_run", lambda *_: (_ for _ in ()).throw(Cut))
        with pytest.raises(Cut):
            take_back(centre)
    for call in (
        lambda: rollback(centre, actor="bo", reason="quick"),
        lambda: verify(centre, registry),
    ):
        assert refused(call).code is Code.RUN_FAILED
    report = take_back(centre)
    second = report["after"]["fusion"]
    assert (report["served_before"], report["serving"]) == (first.id, "")
    assert serving_fusion(centre.ledger) is None
    assert [(one.fusion, one.aliases) for one in registry.versions()] == [(second, ("candidate",))]
    left = b"".join(p.read_bytes() for p in (centre.folder / "models").rglob("*.json"))
    assert first.id.encode() not in left
    assert refused(lambda: rollback(centre, actor="bo", reason="")).code is Code.MODEL_UNKNOWN
    assert [one["dataset"] for one in verify(centre, registry)["withdrawals"]] == [EAST]
    promote(centre, assess(centre, second), actor="ada", reason="second")
    assert verify(centre, registry)["serving"] == second


def test_what_a_backup_brings_back_is_found(centre: Centre, furnished: Path) -> None:
    take_back(centre)
    shutil.copytree(furnished / "bank", centre.folder / "bank", dirs_exist_ok=True)
    found = refused(lambda: expect_purged(centre))
    assert found.code is Code.LEDGER_BROKEN
    assert "5 things" in found.message
