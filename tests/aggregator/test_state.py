from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from aggregator.schema import STATE_VERSION, Announcement, Evaluation, Fusion, Step, Withdrawal
from aggregator.state import State, iso, open_state
from shared.echo.expert import ExpertCard
from shared.errors import Code, EchoFedError

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.fixture
def state(tmp_path: Path) -> State:
    return open_state(tmp_path)


def announcement(dataset: str, content: str, site: str = "north") -> Announcement:
    labels: dict[str, Any] = {"four": ["A4C"]}
    patients = {"four": 12}
    return Announcement(
        site, dataset, content, "phantom", labels, patients, ["rows"], 1, announced=iso(NOW)
    )


def test_state_survives_reopening(tmp_path: Path) -> None:
    open_state(tmp_path).enrol("north", "sha256:aa", now=NOW)
    assert [site.code for site in open_state(tmp_path).sites()] == ["north"]


def test_state_of_a_later_release_is_refused_and_left_alone(tmp_path: Path) -> None:
    open_state(tmp_path).close()
    engine = create_engine(f"sqlite:///{tmp_path / 'state.sqlite'}")
    with engine.begin() as connection:
        connection.execute(text("UPDATE meta SET version = 99"))
    with pytest.raises(EchoFedError) as caught:
        open_state(tmp_path)
    assert caught.value.code is Code.STATE_NEWER
    with engine.begin() as connection:
        assert connection.execute(text("SELECT version FROM meta")).scalar_one() == 99
    engine.dispose()


def test_a_fresh_schema_has_the_current_version(tmp_path: Path) -> None:
    open_state(tmp_path).close()
    engine = create_engine(f"sqlite:///{tmp_path / 'state.sqlite'}")
    with engine.begin() as connection:
        assert connection.execute(text("SELECT version FROM meta")).scalar_one() == STATE_VERSION
    engine.dispose()


def test_a_state_of_the_first_version_learns_of_withdrawals(tmp_path: Path) -> None:
    first = open_state(tmp_path)
    first.enrol("north", "sha256:aa", now=NOW)
    first.close()
    engine = create_engine(f"sqlite:///{tmp_path / 'state.sqlite'}")
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE withdrawals"))
        connection.execute(text("UPDATE meta SET version = 1"))
    engine.dispose()
    state = open_state(tmp_path)
    assert state.withdrawals() == ()
    assert [site.code for site in state.sites()] == ["north"]


def test_a_withdrawal_that_was_asked_for_is_kept_once(state: State) -> None:
    assert state.ask_withdrawal("north", "d1", now=NOW)
    assert not state.ask_withdrawal("north", "d1", now=NOW + timedelta(hours=1))
    (row,) = state.withdrawals()
    assert (row.status, row.since) == ("asked", iso(NOW))


def test_a_withdrawal_clears_figures_of_increments_and_where_others_were_fused(
    state: State,
) -> None:
    state.announce("north", [announcement("d1", "h1"), announcement("d2", "h2")], now=NOW)
    state.mark_fused("fusion-1", ["h1", "h2"])
    for fusion, dataset in (("fusion-1", "d2"), ("fusion-2", "d1"), ("fusion-3", "d2")):
        outcome = {"at_sites": [{"site": "north", "dataset": dataset, "macro_f1": 0.5}]}
        row = state.open_increment(now=NOW)
        state.close_increment(row.id, fusion=fusion, outcome=outcome, now=NOW)
    impact: dict[str, Any] = {"experts": [], "fusions": [{"fusion": "fusion-1"}]}
    state.begin_withdrawal(Withdrawal("north", "d1", "begun", iso(NOW), impact))
    assert [bool(row.outcome) for row in state.increments()] == [False, False, True]
    (row,) = state.announcements()
    assert (row.dataset, row.fused_in) == ("d2", "")


@pytest.mark.parametrize("url", ["nonsense", "unknowndb://host/x", "sqlite:////no/such/folder/x"])
def test_a_bad_database_url_is_a_setting_error(tmp_path: Path, url: str) -> None:
    with pytest.raises(EchoFedError) as caught:
        open_state(tmp_path, url)
    assert caught.value.code is Code.CONFIG_INVALID


def test_absent_since_is_the_first_absence_and_ends_with_an_answer(state: State) -> None:
    state.enrol("north", "sha256:aa", now=NOW)
    state.note_absent("north", now=NOW)
    state.note_absent("north", now=NOW + timedelta(hours=1))
    assert state.sites()[0].absent_since == iso(NOW)
    state.note_seen("north", now=NOW + timedelta(hours=2))
    assert state.sites()[0].absent_since == ""
    assert state.sites()[0].last_seen == iso(NOW + timedelta(hours=2))


def test_an_unchanged_dataset_stays_fused_and_a_changed_one_does_not(state: State) -> None:
    state.announce("north", [announcement("d1", "h1"), announcement("d2", "h2")], now=NOW)
    state.mark_fused("fusion-1", ["h1", "h2"])
    state.announce("north", [announcement("d1", "h1"), announcement("d2", "h3")], now=NOW)
    assert {row.dataset: row.fused_in for row in state.announcements()} == {
        "d1": "fusion-1",
        "d2": "",
    }


def test_a_dataset_keeps_the_first_fusion_that_held_it(state: State) -> None:
    state.announce("north", [announcement("d1", "h1")], now=NOW)
    state.mark_fused("fusion-1", ["h1"])
    state.mark_fused("fusion-2", ["h1"])
    assert state.announcements()[0].fused_in == "fusion-1"


def test_a_dataset_that_its_site_left_out_is_withdrawn_until_it_returns(state: State) -> None:
    state.announce("north", [announcement("d1", "h1")], now=NOW)
    state.announce("south", [announcement("d1", "h9", "south")], now=NOW)
    state.announce("north", [], now=NOW)
    assert [row.site for row in state.announcements()] == ["south"]
    assert [row.site for row in state.withdrawn()] == ["north"]
    state.announce("north", [announcement("d1", "h1")], now=NOW)
    assert state.withdrawn() == ()


def test_an_interrupted_increment_is_taken_up_again(state: State) -> None:
    first = state.open_increment(now=NOW)
    assert state.open_increment(now=NOW).id == first.id
    state.close_increment(first.id, fusion="f", outcome={}, now=NOW)
    second = state.open_increment(now=NOW)
    assert second.id != first.id
    assert [row.status for row in state.increments()] == ["finished", "running"]


def test_a_failure_that_is_not_final_leaves_the_increment_open(state: State) -> None:
    increment = state.open_increment(now=NOW)
    state.note_failure(increment.id, EchoFedError(Code.DISK_FULL, "full"), is_final=False)
    assert state.open_increment(now=NOW).id == increment.id
    state.note_failure(increment.id, EchoFedError(Code.NOTHING_TO_DO, "none"), is_final=True)
    assert state.open_increment(now=NOW).id != increment.id


def test_steps_are_kept_by_attempt(state: State) -> None:
    increment = state.open_increment(now=NOW).id
    assert state.next_attempt(increment) == 1
    state.add_step(Step(increment, 1, "describe", iso(NOW), 1.5, 0.5, 10, 20, {}))
    assert state.next_attempt(increment) == 2
    assert [(step.name, step.seconds) for step in state.steps(increment)] == [("describe", 1.5)]
    assert state.steps("i9999") == ()


def test_an_expert_is_kept_with_its_card(state: State) -> None:
    card = ExpertCard(
        "north-d1-ab", "north", ("d1",), ("h1",), "phantom", "cifar_resnet18", 32, ("A4C",), 8,
        ("bn1",), "ab" * 32, "", 1, "hash", {}, {"f1": 0.5}, "",
    )  # fmt: skip
    state.add_expert(card, now=NOW)
    state.add_expert(card, now=NOW)
    (row,) = state.experts()
    assert row.weights_sha256 == card.weights_sha256
    assert row.dataset_hashes == ["h1"]


def test_an_unknown_fusion_is_named_with_the_newest(state: State) -> None:
    state.add_fusion(Fusion("fusion-1", "r", iso(NOW), {}, {}))
    state.note_registered("fusion-1", "3")
    assert state.fusion("fusion-1").model_version == "3"
    with pytest.raises(EchoFedError, match="fusion-2") as caught:
        state.fusion("fusion-2")
    assert "fusion-1" in caught.value.hint


def test_evaluations_belong_to_their_fusion(state: State) -> None:
    state.add_evaluation(Evaluation("f1", "north", "d1", "h1", {"macro_f1": 0.5}, iso(NOW)))
    assert [row.document for row in state.evaluations("f1")] == [{"macro_f1": 0.5}]
    assert state.evaluations("f2") == ()
