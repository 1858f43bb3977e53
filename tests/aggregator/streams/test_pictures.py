"""The pictures of a stream's sites: patients stay apart, between splits and between sites."""

import csv
from collections.abc import Iterable
from pathlib import Path

import pytest

from aggregator.streams.pictures import REAL_DATA, link_public, write_phantom
from aggregator.streams.plan import (
    PLAN_FILE,
    PhantomSource,
    StreamPlan,
    StreamSite,
    StreamsPlan,
    choose_streams,
)
from shared.errors import Code, EchoFedError
from shared.settings import load_settings


def organs() -> StreamPlan:
    (plan,) = choose_streams(load_settings(StreamsPlan, PLAN_FILE), ["organs"])
    return plan


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def splits_by_patient(rows: Iterable[dict[str, str]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row["patient"], set()).add(row["split"])
    return found


@pytest.mark.parametrize("seed", [1, 2])
def test_no_patient_of_the_organ_stream_is_in_two_splits_or_sites(
    real_data: Path, tmp_path: Path, seed: int
) -> None:
    seen: set[str] = set()
    for site in organs().sites:
        link_public(site, tmp_path / site.name, seed=seed)
        splits = splits_by_patient(rows_of(tmp_path / site.name))
        assert all(len(where) == 1 for where in splits.values())
        assert not seen & set(splits)
        seen |= set(splits)


def test_only_the_agreed_patients_of_camus_test(real_data: Path, tmp_path: Path) -> None:
    for site in organs().sites:
        link_public(site, tmp_path / site.name, seed=1)
        for row in rows_of(tmp_path / site.name):
            if row["patient"].startswith("camus_a4c"):
                is_test_part = int(row["patient"][-4:]) > 200
                assert is_test_part == (row["split"] == "test")


def test_foreign_sites_are_scored_only(real_data: Path, tmp_path: Path) -> None:
    for site in organs().sites:
        if site.is_foreign:
            link_public(site, tmp_path / site.name, seed=1)
            assert {row["split"] for row in rows_of(tmp_path / site.name)} == {"test"}


def test_without_the_public_sets_the_way_out_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(REAL_DATA, raising=False)
    with pytest.raises(EchoFedError, match=REAL_DATA) as caught:
        link_public(organs().sites[0], tmp_path, seed=1)
    assert caught.value.code == Code.CONFIG_MISSING


def test_hospitals_bring_labels_splits_and_words(tmp_path: Path) -> None:
    labels: dict[str, str | tuple[str, ...]] = {"4C": "A4C", "LVO": "A4C-contrast"}
    site = StreamSite(name="fjord", phantom=PhantomSource(scanner="fjord", labels=labels))
    plan = StreamPlan(
        name="small", origin="phantom", sites=(site,), size_HW=(60, 80),
        train_patients=2, val_patients=1, test_patients=1, frames_per_clip=1,
    )  # fmt: skip
    write_phantom(plan, site, tmp_path, seed=1)
    with (tmp_path / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["split"] for row in rows] == ["train"] * 4 + ["val"] * 2 + ["test"] * 2
    assert {row["label"] for row in rows} == set(labels)


def test_an_unknown_stream_is_refused() -> None:
    with pytest.raises(EchoFedError) as caught:
        choose_streams(load_settings(StreamsPlan, PLAN_FILE), ["ships"])
    assert caught.value.code == Code.NAME_UNKNOWN


def test_hospitals_know_fourteen_views_and_one_exports_statistics_only() -> None:
    (plan,) = choose_streams(load_settings(StreamsPlan, PLAN_FILE), ["hospitals"])
    views = {
        view
        for site in plan.sites
        if site.phantom
        for named in site.phantom.labels.values()
        for view in ((named,) if isinstance(named, str) else named)
    }
    assert len(views) >= 14
    assert len({site.phantom.scanner for site in plan.sites if site.phantom}) == 6
    assert [site.level for site in plan.sites].count("statistics") == 1
