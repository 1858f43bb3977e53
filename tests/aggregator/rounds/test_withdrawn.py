"""Withdrawal over the rounds: sites drop copies, what was taken back does not come again."""

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from aggregator.cards import active_experts
from aggregator.rounds.describe import describe
from aggregator.withdrawal import withdraw
from shared.errors import Code, EchoFedError
from shared.payload import Payload
from site_client.withdraw import withdraw as withdraw_at_site

TODAY = date(2026, 11, 22)


def take_back(federation, dataset: str) -> dict[str, Any]:
    return withdraw(
        federation.centre, dataset, actor="ada", clock=lambda: federation.round().clock()
    )


def withdraw_south(federation) -> None:
    store = federation.sites["south"].store
    policy = store.root / "policy.yaml"
    withdraw_at_site(store, policy, "echo", site="south", today=TODAY)


def test_other_sites_drop_experts_fusions_and_exports_of_a_withdrawn_dataset(after_one) -> None:
    store = after_one.sites["north"].store
    (first,) = store.fusions()
    store.set_serving(first)
    num_exports = len(list((store.root / "exports").iterdir()))
    take_back(after_one, "south/echo")
    roll = describe(after_one.round())
    assert {card.site for card in store.expert_cards()} == {"north"}
    assert store.fusions() == ()
    assert store.serving_fusion() is None
    assert len(list((store.root / "exports").iterdir())) == num_exports - 1
    assert len(roll.received["north"]) == 1
    own = after_one.sites["south"].store
    assert "south" in {card.site for card in own.expert_cards()}  # its own to drop


def test_what_was_withdrawn_does_not_come_again(after_one) -> None:
    fused = take_back(after_one, "south/echo")["after"]["fusion"]
    outcome = after_one.increment()
    assert outcome["fusion"] == fused
    assert [one["code"] for one in outcome["refused"]] == [int(Code.DATASET_WITHDRAWN)]
    assert {row.site for row in after_one.centre.state.experts()} == {"north"}
    assert {row.site for row in after_one.centre.state.announcements()} == {"north"}
    assert "query.experts" not in after_one.asked_of("south")[-2:]


def test_an_expert_trained_again_on_a_withdrawn_dataset_is_refused(after_one) -> None:
    take_back(after_one, "south/echo")
    after_one.sites["south"].train(seed=9)
    outcome = after_one.increment()
    assert {one["kind"] for one in outcome["refused"]} == {"description", "expert"}
    assert {row.site for row in after_one.centre.state.experts()} == {"north"}


def test_a_child_of_a_withdrawn_expert_is_refused(after_one) -> None:
    gone = take_back(after_one, "south/echo")["impact"]["experts"][0]["expert"]
    after_one.sites["north"].train(seed=9)

    def as_child(reply: Payload) -> Payload:
        (card,) = reply.body["cards"]
        return replace(reply, body={**reply.body, "cards": [{**card, "parent": gone}]})

    after_one.tampers["north", "query.experts"] = as_child
    outcome = after_one.increment()
    told = [one for one in outcome["refused"] if one["kind"] == "expert"]
    assert [one["code"] for one in told] == [int(Code.DATASET_WITHDRAWN)]


def test_a_site_that_takes_a_dataset_back_is_noticed_once_and_no_longer_fused(after_one) -> None:
    withdraw_south(after_one)
    for _ in range(2):
        describe(after_one.round())
    state = after_one.centre.state
    assert [(row.site, row.dataset, row.status) for row in state.withdrawals()] == [
        ("south", "echo", "asked")
    ]
    kinds = [entry.kind for entry in after_one.centre.ledger.entries()]
    assert kinds.count("withdrawal.asked") == 1
    assert [name.split("-")[0] for name in active_experts(after_one.centre)] == ["north"]
    report = take_back(after_one, "south/echo")
    assert report["certificate"]["exact"]
    assert state.withdrawals()[0].status == "finished"


def test_a_site_can_take_back_only_what_it_announced_itself(after_one) -> None:
    def asks(reply: Payload) -> Payload:
        return replace(reply, body={**reply.body, "withdrawn": ["echo2", "north/echo"]})

    after_one.tampers["south", "query.describe"] = asks
    describe(after_one.round())
    assert after_one.centre.state.withdrawals() == ()


def test_a_withdrawal_of_another_form_is_refused(after_one) -> None:
    def asks(reply: Payload) -> Payload:
        return replace(reply, body={**reply.body, "withdrawn": "echo"})

    after_one.tampers["south", "query.describe"] = asks
    current = after_one.round()
    describe(current)
    assert [one["code"] for one in current.tally.refused] == [int(Code.WIRE_INVALID)]


def test_nothing_of_a_withdrawn_dataset_passes_the_door(after_one, tmp_path: Path) -> None:
    withdraw_south(after_one)
    roll = describe(after_one.round())
    assert roll.offers["south"] == ()
    assert {row.site for row in after_one.centre.state.announcements()} == {"north"}
    with pytest.raises(EchoFedError) as caught:
        withdraw_south(after_one)
    assert caught.value.code is Code.NOTHING_TO_DO
