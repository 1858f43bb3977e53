import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aggregator.cards import active_experts
from aggregator.rounds import collect_features as module
from aggregator.rounds.collect_experts import collect_experts
from aggregator.rounds.collect_features import collect_features
from aggregator.rounds.describe import Roll, describe
from aggregator.rounds.round import Round
from aggregator.withdrawal import withdraw
from shared.echo.features import FeatureExport, read_export
from shared.echo.statistics import StatisticsExport, read_statistics
from shared.errors import Code, EchoFedError
from shared.ledger import Ledger
from shared.payload import Payload
from site_client.policy import DatasetPolicy


@pytest.fixture
def roll(current: Round) -> Roll:
    """Described, experts collected, nothing extracted."""
    found = describe(current)
    collect_experts(current, found)
    current.tally.arrived.clear()
    return found


def collect(federation, roll: Roll) -> Round:
    current = federation.round()
    collect_features(current, roll, active_experts(federation.centre))
    return current


def pairs(federation) -> set[tuple[str, str]]:
    return {(e.card.site, e.card.expert.split("-")[0]) for e in federation.centre.bank.entries()}


ALL_PAIRS = {(site, expert) for site in ("north", "south") for expert in ("north", "south")}


def test_every_expert_looks_at_every_dataset_once(federation, roll: Roll) -> None:
    collect(federation, roll)
    assert pairs(federation) == ALL_PAIRS
    collect(federation, roll)
    assert federation.asked_of("north").count("query.features") == 1


def test_arrivals_are_recorded_with_hash_and_size(federation, roll: Roll) -> None:
    collect(federation, roll)
    bodies = [e.body for e in federation.centre.ledger.entries() if e.kind == "export.arrived"]
    recorded = {(body["sha256"], body["bytes"]) for body in bodies}
    assert recorded == {(e.sha256, e.num_bytes) for e in federation.centre.bank.entries()}


def test_rows_of_both_experts_join_frame_by_frame(federation, roll: Roll) -> None:
    collect(federation, roll)
    joined = federation.centre.bank.join(active_experts(federation.centre))
    assert [rows.num_dropped for rows in joined.datasets] == [0, 0]
    assert joined.missing == {}


def test_a_site_never_receives_the_same_weights_twice(federation, roll: Roll) -> None:
    sent: list[set[str]] = []
    ask = federation.ask

    def listening(message_type: str, per_site: Any, **rest: Any) -> Any:
        sent.append(set(per_site.get("north", Payload()).blobs))
        return ask(message_type, per_site, **rest)

    federation.ask = listening
    collect(federation, roll)
    (south,) = {row.id for row in federation.centre.state.experts() if row.site == "south"}
    assert sent == [{south}]
    again = describe(federation.round())
    federation.sites["north"].ingest({"4CH": "A4C"}, seed=5)
    collect(federation, again)
    assert sent[1:] == [set(), set()] or not any(sent[1:])


def test_a_missing_node_leaves_the_others_exports_in_the_bank(federation, roll: Roll) -> None:
    federation.away.add("south")
    current = collect(federation, roll)
    assert pairs(federation) == {("north", "north"), ("north", "south")}
    assert current.tally.absent == {"south": "SITE_UNREACHABLE"}


def test_a_late_node_is_asked_next_time_and_answers_from_what_it_kept(
    federation, roll: Roll
) -> None:
    lost = federation.reply_lost("south", "query.features")
    collect(federation, roll)
    assert pairs(federation) == {("north", "north"), ("north", "south")}
    kept = {path: path.stat().st_mtime_ns for path in exports_at(federation, "south")}
    assert len(kept) == 2
    lost.clear()
    collect(federation, roll)
    assert pairs(federation) == ALL_PAIRS
    assert {path: path.stat().st_mtime_ns for path in exports_at(federation, "south")} == kept


def exports_at(federation, site: str) -> list[Path]:
    return sorted((federation.sites[site].store.root / "exports").glob("*.safetensors"))


def test_a_damaged_kept_export_is_made_again(federation, roll: Roll) -> None:
    lost = federation.reply_lost("south", "query.features")
    collect(federation, roll)
    exports_at(federation, "south")[0].write_bytes(b"half of it")
    lost.clear()
    collect(federation, roll)
    assert pairs(federation) == ALL_PAIRS


def test_a_changed_dataset_drops_what_was_kept_of_the_old_content(federation, roll: Roll) -> None:
    collect(federation, roll)
    federation.sites["north"].ingest({"4CH": "A4C", "2CH": "A2C"}, seed=77)
    describe(federation.round())
    assert exports_at(federation, "north") == []


def test_a_reply_is_cut_where_it_would_grow_too_large(
    federation, roll: Roll, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_REPLY_BYTES", 1)
    collect(federation, roll)
    assert pairs(federation) == ALL_PAIRS
    assert federation.asked_of("south").count("query.features") == 2


def test_an_export_that_nobody_asked_for_is_refused_and_changes_nothing(
    federation, roll: Roll
) -> None:
    collect(federation, roll)
    before = federation.centre.bank.entries()
    (first, *_) = before
    data = federation.centre.bank.read(first).to_bytes()
    retrained = federation.sites["north"].train(seed=9)
    again = describe(federation.round())
    collect_experts(federation.round(), again)

    def repeat(reply: Payload) -> Payload:
        return replace(reply, blobs={**reply.blobs, "echo/again": data})

    federation.tampers[first.card.site, "query.features"] = repeat
    current = federation.round()
    collect_features(current, again, [row.id for row in federation.centre.state.experts()])
    codes = [one["code"] for one in current.tally.refused]
    assert codes == [int(Code.DUPLICATE_REPLY)]
    assert federation.centre.bank.entries()[: len(before)] == before
    assert {e.card.expert for e in federation.centre.bank.entries()[len(before) :]} == {
        retrained.id
    }


def on_first_export(change: Callable[[FeatureExport], FeatureExport]) -> Callable[..., Payload]:
    def tamper(reply: Payload) -> Payload:
        name, data = next(iter(reply.blobs.items()))
        return replace(reply, blobs={**reply.blobs, name: change(read_export(data)).to_bytes()})

    return tamper


def with_nan(export: FeatureExport) -> FeatureExport:
    features_ND = export.features_ND.copy()
    features_ND[0, 0] = np.nan
    return replace(export, features_ND=features_ND)


def narrower(export: FeatureExport) -> FeatureExport:
    card = replace(export.card, feature_width=export.card.feature_width - 1)
    return replace(export, card=card, features_ND=export.features_ND[:, 1:])


def with_card(**changes: Any) -> Callable[[FeatureExport], FeatureExport]:
    return lambda export: replace(export, card=replace(export.card, **changes))


def truncated(reply: Payload) -> Payload:
    name, data = next(iter(reply.blobs.items()))
    return replace(reply, blobs={**reply.blobs, name: data[: len(data) // 2]})


@pytest.mark.parametrize(
    ("tamper", "code"),
    [
        (on_first_export(with_nan), Code.FEATURES_NOT_FINITE),
        (on_first_export(narrower), Code.FEATURE_WIDTH),
        (on_first_export(with_card(feature_width=3)), Code.FEATURE_WIDTH),
        (on_first_export(with_card(version=99)), Code.CARD_NEWER),
        (on_first_export(with_card(site="south")), Code.IDENTITY_MISMATCH),
        (on_first_export(with_card(dataset_hash="0" * 64)), Code.IDENTITY_MISMATCH),
        (on_first_export(with_card(expert_sha256="0" * 64)), Code.FEATURES_INVALID),
        (truncated, Code.CHECKPOINT_CORRUPT),
    ],
)
def test_a_bad_export_is_refused_by_code_and_costs_no_other_export(
    federation, roll: Roll, tamper: Callable[[Payload], Payload], code: Code
) -> None:
    federation.tampers["north", "query.features"] = tamper
    current = collect(federation, roll)
    assert [one["code"] for one in current.tally.refused] == [int(code)]
    assert len(pairs(federation)) == len(ALL_PAIRS) - 1
    refused = [e for e in federation.centre.ledger.entries() if e.kind == "export.refused"]
    assert [entry.body["site"] for entry in refused] == ["north"]


def test_what_the_policy_keeps_is_named_by_its_code_and_not_asked_for_again(
    federation, roll: Roll
) -> None:
    federation.sites["south"].allow(
        DatasetPolicy(purposes=("fusion",), recipients=("echofed",), artefacts=("expert_weights",))
    )
    current = collect(federation, roll)
    assert {one["code"] for one in current.tally.refused} == {int(Code.EGRESS_DENIED)}
    assert federation.asked_of("south").count("query.features") == 1
    assert pairs(federation) == {("north", "north"), ("north", "south")}


def test_altered_weights_never_run_at_a_site(federation, roll: Roll) -> None:
    (south,) = [row.id for row in federation.centre.state.experts() if row.site == "south"]
    ask = federation.ask

    def altering(message_type: str, per_site: Any, **rest: Any) -> Any:
        request = per_site["north"]
        blobs = {name: blob[:-1] + bytes([blob[-1] ^ 1]) for name, blob in request.blobs.items()}
        return ask(message_type, {"north": replace(request, blobs=blobs)}, **rest)

    federation.ask = altering
    current = collect(federation, roll)
    assert [one["code"] for one in current.tally.refused] == [int(Code.CHECKPOINT_CORRUPT)]
    assert south not in federation.sites["north"].store.experts()


def test_a_full_disk_ends_the_round_and_loses_nothing(
    federation, roll: Roll, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.replace

    def full(source: str, target: Path) -> None:
        if "bank" in str(target) and "index" not in str(target) and pairs(federation):
            raise OSError(errno.ENOSPC, "no space left")
        rename(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(EchoFedError) as caught:
            collect(federation, roll)
    assert caught.value.code is Code.DISK_FULL
    assert len(pairs(federation)) == 1
    collect(federation, roll)
    assert pairs(federation) == ALL_PAIRS


STATISTICS_ONLY = DatasetPolicy(
    purposes=("fusion", "evaluation"),
    recipients=("echofed",),
    artefacts=("statistics", "expert_weights"),
    minimum_patients_per_view=2,
)


def test_a_site_that_lets_no_rows_go_sends_statistics_of_all_experts(federation) -> None:
    federation.sites["south"].allow(STATISTICS_ONLY)
    current = federation.round()
    roll = describe(current)
    collect_experts(current, roll)
    collect(federation, roll)
    assert pairs(federation) == {("north", "north"), ("north", "south")}
    (entry,) = federation.centre.bank.statistics.entries()
    assert entry.name == "south/echo"
    assert set(entry.experts) == set(active_experts(federation.centre))
    store = federation.sites["south"].store
    sent = [e.body for e in Ledger(store.ledger_path).entries() if e.kind == "egress.sent"]
    assert "rows" not in {body["artefact"] for body in sent}
    arrived = [e.body for e in federation.centre.ledger.entries() if e.kind == "export.arrived"]
    assert (entry.sha256, entry.num_bytes) in {(body["sha256"], body["bytes"]) for body in arrived}
    collect(federation, roll)
    assert federation.asked_of("south").count("query.features") == 1


def test_a_new_expert_is_told_of_by_statistics_of_all(federation) -> None:
    federation.sites["south"].allow(STATISTICS_ONLY)
    assert federation.increment()["refused"] == []
    federation.sites["north"].train(seed=9)
    outcome = federation.increment()
    experts = active_experts(federation.centre)
    assert set(federation.centre.bank.statistics.entries()[-1].experts) == set(experts)
    assert outcome["refused"] == []
    joined = federation.centre.bank.join(experts)
    assert joined.missing == {}
    assert [one.card.dataset for one in joined.statistics] == ["echo"]
    assert [one["site"] for one in outcome["at_sites"]] == ["north", "south"]


def test_rows_of_all_experts_come_once_the_policy_lets_them(federation) -> None:
    federation.sites["south"].allow(STATISTICS_ONLY)
    federation.increment()
    more = STATISTICS_ONLY.model_copy(update={"artefacts": ("rows", "expert_weights")})
    federation.sites["south"].allow(more)
    federation.increment()
    assert pairs(federation) == ALL_PAIRS
    assert federation.centre.bank.join(active_experts(federation.centre)).statistics == ()


def test_statistics_of_a_withdrawn_dataset_and_of_its_expert_go(federation) -> None:
    federation.sites["south"].allow(STATISTICS_ONLY)
    federation.increment()
    centre = federation.centre
    (entry,) = centre.bank.statistics.entries()
    withdraw(centre, "north/echo", actor="ada", clock=federation.round().clock)
    assert entry.sha256 not in centre.bank.files()
    assert centre.bank.statistics.entries() == ()


def with_mean(export: StatisticsExport) -> StatisticsExport:
    mean_SKM = export.moments.mean_SKM * np.nan
    return replace(export, moments=replace(export.moments, mean_SKM=mean_SKM))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (with_mean, Code.FEATURES_NOT_FINITE),
        (lambda e: replace(e, card=replace(e.card, dataset_hash="0")), Code.IDENTITY_MISMATCH),
        (
            lambda e: replace(e, card=replace(e.card, expert_sha256=("0",) * 2)),
            Code.FEATURES_INVALID,
        ),
    ],
)
def test_bad_statistics_are_refused_by_code(federation, change: Any, code: Code) -> None:
    federation.sites["south"].allow(STATISTICS_ONLY)

    def tamper(reply: Payload) -> Payload:
        changed = {n: change(read_statistics(data)).to_bytes() for n, data in reply.blobs.items()}
        return replace(reply, blobs=changed)

    federation.tampers["south", "query.features"] = tamper
    current = federation.round()
    roll = describe(current)
    collect_experts(current, roll)
    assert [one["code"] for one in collect(federation, roll).tally.refused] == [int(code)]
    assert federation.centre.bank.statistics.entries() == ()


def test_a_site_of_too_few_patients_sends_no_statistics(federation) -> None:
    few = STATISTICS_ONLY.model_copy(update={"minimum_patients_per_view": 3})
    federation.sites["south"].allow(few)
    current = federation.round()
    roll = describe(current)
    collect_experts(current, roll)
    current = collect(federation, roll)
    assert int(Code.TOO_FEW_PATIENTS) in {one["code"] for one in current.tally.refused}
    assert federation.centre.bank.statistics.entries() == ()
