"""The bank of statistics: accepts once, refuses what does not fit, stands in where rows lack."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from aggregator.feature_bank import FeatureBank
from shared.echo.statistics import StatisticsExport
from shared.errors import Code, EchoFedError
from shared.testing.exports import GaussianWorld
from site_client.condense import condense

NOW = datetime(2026, 1, 2, tzinfo=UTC)
WORLD = GaussianWorld(
    {"north": ("A4C", "A2C"), "south": ("A4C", "PLAX"), "east": ("A3C", "A2C")},
    num_clips=8,
    feature_width=6,
)
IDS = [WORLD.expert(site).id for site in WORLD.views]
NAME = "north/north-echo"


@pytest.fixture
def bank(tmp_path: Path) -> FeatureBank:
    return FeatureBank(tmp_path / "bank")


def condensed(site: str, *experts: str) -> StatisticsExport:
    exports = [WORLD.export(site, expert) for expert in experts]
    return condense(exports, minimum=2, created="2026-01-01T00:00:00+00:00")


def add(bank: FeatureBank, told: StatisticsExport) -> str:
    return bank.statistics.add(told.to_bytes(), WORLD.experts(), now=NOW).sha256


def add_rows(bank: FeatureBank, site: str, *experts: str) -> None:
    for expert in experts:
        bank.add(WORLD.export(site, expert).to_bytes(), WORLD.experts(), now=NOW)


def test_a_dataset_without_rows_joins_by_its_statistics(bank: FeatureBank) -> None:
    add_rows(bank, "south", "north", "south")
    add(bank, condensed("north", "north", "south"))
    joined = bank.join(IDS[:2])
    assert [rows.name for rows in joined.datasets] == ["south/south-echo"]
    assert [one.card.dataset for one in joined.statistics] == ["north-echo"]
    assert joined.missing == {}
    assert bank.latest()[NAME] == WORLD.content_hash("north")


def test_statistics_alone_can_be_joined(bank: FeatureBank) -> None:
    add(bank, condensed("north", "north", "south"))
    joined = bank.join(IDS[:2])
    assert joined.datasets == ()
    assert [block.expert for block in joined.blocks] == IDS[:2]


def test_what_tells_of_more_experts_is_taken(bank: FeatureBank) -> None:
    add_rows(bank, "north", "north", "south")
    add(bank, condensed("north", "north", "south"))
    assert bank.join(IDS[:2]).statistics == ()
    add(bank, condensed("north", "north", "south", "east"))
    (told,) = bank.join(IDS).statistics
    assert [block.expert for block in told.card.blocks] == IDS


def test_an_expert_that_statistics_do_not_tell_of_is_lacking(bank: FeatureBank) -> None:
    add(bank, condensed("north", "north", "south"))
    assert bank.lacks(bank.latest(), IDS) == {NAME: (IDS[2],)}
    assert bank.experts() == frozenset(IDS[:2])


def test_what_only_the_statistics_that_are_not_taken_tell_of_is_lacking(bank: FeatureBank) -> None:
    add_rows(bank, "south", "north", "south", "east")
    add_rows(bank, "north", "east")
    add(bank, condensed("north", "north", "south"))
    assert bank.lacks(bank.latest(), IDS) == bank.join(IDS).missing == {NAME: (IDS[2],)}
    assert bank.lacks_rows(bank.latest(), IDS) == {NAME: tuple(IDS[:2])}


def test_removed_statistics_leave_no_file(bank: FeatureBank) -> None:
    add_rows(bank, "south", "south")
    going = add(bank, condensed("north", "north"))
    assert going in bank.files()
    bank.remove({going})
    assert going not in bank.files()
    assert bank.statistics.entries() == ()
    assert len(bank.entries()) == len(bank.files()) == 1


def test_equal_bytes_count_once_and_others_are_refused(bank: FeatureBank) -> None:
    told = condensed("north", "north", "south")
    assert add(bank, told) == add(bank, told)
    later = replace(told, card=replace(told.card, created="2026-02-02T00:00:00+00:00"))
    with pytest.raises(EchoFedError) as caught:
        add(bank, later)
    assert caught.value.code is Code.DUPLICATE_REPLY
    assert len(bank.statistics.entries()) == 1


def test_statistics_that_do_not_fit_their_expert_are_refused(bank: FeatureBank) -> None:
    told = condensed("north", "north", "south")
    (north, south), card = told.card.blocks, told.card
    faults = {
        Code.EXPERT_UNKNOWN: replace(card, blocks=(north, replace(south, expert="x"))),
        Code.FEATURES_INVALID: replace(card, expert_sha256=("0" * 64, card.expert_sha256[1])),
        Code.FEATURE_WIDTH: replace(
            card,
            blocks=(
                replace(north, num_evidence=north.num_evidence + 1, feature_width=5),
                south,
            ),
        ),
    }
    for code, wrong in faults.items():
        with pytest.raises(EchoFedError) as caught:
            add(bank, replace(told, card=wrong))
        assert caught.value.code is code
    assert bank.statistics.entries() == ()


def test_an_altered_file_is_noticed(bank: FeatureBank, tmp_path: Path) -> None:
    sha256 = add(bank, condensed("north", "north"))
    path = tmp_path / "bank" / "statistics" / f"{sha256}.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(EchoFedError) as caught:
        bank.join(IDS[:1])
    assert caught.value.code is Code.CHECKPOINT_CORRUPT
