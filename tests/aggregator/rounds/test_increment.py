"""Increments in one process: who is lost, what is kept, and that nothing is asked for twice."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from aggregator.centre import open_centre
from aggregator.schema import Increment
from aggregator.serving import PROMOTED
from shared.echo.expert import load_fusion
from shared.errors import Code, EchoFedError
from shared.payload import Payload


def last(federation) -> Increment:
    return federation.centre.state.increments()[-1]


def test_the_first_increment_ends_with_an_evaluated_fusion_of_all_experts(federation) -> None:
    outcome = federation.increment()
    card, _ = load_fusion(federation.centre.fusion_folder(outcome["fusion"]))
    assert {block.expert.split("-")[0] for block in card.blocks} == {"north", "south"}
    assert set(card.fresh) == {"north/echo", "south/echo"}
    assert {one["site"] for one in outcome["at_sites"]} == {"north", "south"}
    assert all(one["id_scores"] for one in outcome["report"]["datasets"].values())
    assert last(federation).status == "finished"


def test_the_centre_finds_on_banked_rows_what_the_sites_find_on_frames(federation) -> None:
    outcome = federation.increment()
    for one in outcome["at_sites"]:
        banked = outcome["report"]["datasets"][f"{one['site']}/{one['dataset']}"]
        assert one["id_scores"] == pytest.approx(banked["id_scores"], abs=0.01)  # float16 rows


def test_every_step_is_timed_and_weighed(federation) -> None:
    outcome = federation.increment()
    steps = {step["step"]: step for step in outcome["steps"]}
    assert list(steps) == ["describe", "experts", "features", "fuse", "evaluate"]
    assert all(step["seconds"] > 0 for step in outcome["steps"])
    assert steps["features"]["bytes_in"] > steps["describe"]["bytes_in"]
    assert set(steps["features"]["site_cpu_seconds"]) == {"north", "south"}
    assert steps["fuse"]["bytes_in"] == steps["fuse"]["bytes_out"] == 0


def test_nothing_new_asks_for_a_description_only_and_trains_nothing(after_one) -> None:
    first = after_one.centre.state.fusions()[0].id
    after_one.asked.clear()
    second = after_one.increment()
    assert {kind for _, kind in after_one.asked} == {"query.describe"}
    assert second["fusion"] == first
    assert not second["is_new"]


def test_a_new_site_costs_only_what_is_missing(after_one, tmp_path: Path) -> None:
    first = after_one.centre.state.fusions()[0].id
    after_one.join(tmp_path, "east")
    second = after_one.increment()
    arrived = {
        (one["site"], one["expert"].split("-")[0])
        for one in second["arrived"]
        if one["kind"] == "export"
    }
    assert arrived == {(s, e) for s in ("north", "south", "east") for e in ("east",)} | {
        ("east", "north"),
        ("east", "south"),
    }
    assert second["fusion"] != first
    card, _ = load_fusion(after_one.centre.fusion_folder(second["fusion"]))
    assert card.parent == first
    assert "SC-4C" in card.views


def test_an_absent_sites_export_is_used_and_named(after_one, tmp_path: Path) -> None:
    after_one.join(tmp_path, "east")
    after_one.away.add("south")
    outcome = after_one.increment()
    report = outcome["report"]
    assert outcome["absent"] == {"south": "SITE_UNREACHABLE"}
    assert (report["fresh"], report["cached"], report["missing"]) == (
        ["east/echo", "north/echo"],
        ["south/echo"],
        [],
    )
    card, _ = load_fusion(after_one.centre.fusion_folder(outcome["fusion"]))
    assert card.cached == ("south/echo",)
    assert "PLAX" in card.views


def test_a_dataset_without_any_export_is_named_as_missing(federation) -> None:
    lost = federation.reply_lost("south", "query.features")
    outcome = federation.increment()
    assert outcome["report"]["missing"] == ["south/echo"]
    assert outcome["absent"] == {"south": "SITE_UNREACHABLE"}
    lost.clear()
    assert federation.increment()["report"]["missing"] == []


def test_a_site_killed_in_mid_round_is_not_waited_for_again(federation) -> None:
    federation.dies("south", "query.features")
    outcome = federation.increment()
    assert federation.asked_of("south").count("evaluate.fusion") == 0
    assert outcome["present"] == ["north"]
    assert {one["site"] for one in outcome["at_sites"]} == {"north"}


def test_a_centre_killed_in_mid_round_resumes_without_asking_twice(federation) -> None:
    ask = federation.ask

    def killed(message_type: str, per_site: dict[str, Payload], **rest: Any) -> Any:
        if message_type == "query.features":
            ask(message_type, {"north": per_site["north"]}, **rest)
            raise KeyboardInterrupt
        return ask(message_type, per_site, **rest)

    federation.ask = killed
    with pytest.raises(KeyboardInterrupt):
        federation.increment()
    interrupted = last(federation)
    assert interrupted.status == "running"
    federation.centre = open_centre(federation.config)
    federation.ask = ask
    federation.asked.clear()
    outcome = federation.increment()
    assert outcome["increment"] == interrupted.id
    assert outcome["attempt"] == 2
    assert federation.asked_of("north") == ["query.describe", "evaluate.fusion"]
    assert federation.asked_of("south") == ["query.describe", "query.features", "evaluate.fusion"]
    assert last(federation).status == "finished"


def test_a_full_disk_leaves_the_increment_open_and_is_told(
    federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.replace

    def full(source: str, target: Path) -> None:
        if "fusions" in str(target):
            raise OSError(errno.ENOSPC, "no space left")
        rename(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(EchoFedError) as caught:
            federation.increment()
    assert caught.value.code is Code.DISK_FULL
    assert last(federation).status == "running"
    assert last(federation).error.startswith("DISK_FULL")
    assert federation.increment()["attempt"] == 2


def test_with_no_site_there_is_nothing_to_do(federation) -> None:
    federation.away |= {"north", "south"}
    with pytest.raises(EchoFedError) as caught:
        federation.increment()
    assert caught.value.code is Code.NOTHING_TO_DO
    assert last(federation).status == "failed"


def test_a_retrained_expert_takes_the_place_of_the_old_one(after_one) -> None:
    first = after_one.centre.state.fusions()[0].id
    newer = after_one.sites["north"].train(seed=9)
    second = after_one.increment()
    card, _ = load_fusion(after_one.centre.fusion_folder(second["fusion"]))
    assert len(card.blocks) == 2
    assert newer.id in {block.expert for block in card.blocks}
    assert second["fusion"] != first


def test_a_changed_dataset_is_looked_at_anew(after_one) -> None:
    after_one.sites["north"].ingest({"4CH": "A4C", "2CH": "A2C"}, seed=50)
    outcome = after_one.increment()
    arrived = [one["site"] for one in outcome["arrived"] if one["kind"] == "export"]
    assert arrived == ["north", "north"]
    assert outcome["report"]["fresh"] == ["north/echo", "south/echo"]


def test_a_dataset_that_its_site_took_back_leaves_the_next_fusion(after_one) -> None:
    after_one.sites["north"].allow(dataset="another")
    outcome = after_one.increment()
    card, _ = load_fusion(after_one.centre.fusion_folder(outcome["fusion"]))
    assert [block.expert.split("-")[0] for block in card.blocks] == ["south"]
    assert set(outcome["report"]["datasets"]) == {"south/echo"}


def test_a_late_site_gets_the_serving_fusion_with_the_next_increment(after_one) -> None:
    first = after_one.centre.state.fusions()[0].id
    after_one.centre.ledger.append(PROMOTED, {"fusion": first}, actor="operator")
    after_one.increment()
    serving = {name: site.store.serving_fusion() for name, site in after_one.sites.items()}
    assert serving == {"north": first, "south": first}


def test_figures_without_a_confusion_of_counts_are_refused(federation) -> None:
    def telling(confusion: object) -> Any:
        def tamper(reply: Payload) -> Payload:
            metrics = [{**one, "confusion": confusion} for one in reply.body["metrics"]]
            return Payload({**reply.body, "metrics": metrics}, reply.blobs)

        return tamper

    federation.tampers["north", "evaluate.fusion"] = telling([[0, 0], [0, 0]])
    federation.tampers["south", "evaluate.fusion"] = telling([[1, 0], [-1, 2]])
    outcome = federation.increment()
    assert outcome["at_sites"] == []
    assert [one["code"] for one in outcome["refused"]] == 2 * [int(Code.WIRE_INVALID)]
