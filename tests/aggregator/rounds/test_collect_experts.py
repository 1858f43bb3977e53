from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from aggregator.rounds.collect_experts import collect_experts
from aggregator.rounds.describe import describe
from shared.echo.expert import load_expert
from shared.errors import Code
from shared.files import sha256_hex
from shared.payload import Payload


def test_an_expert_arrives_whole_and_is_recorded(federation, current) -> None:
    collect_experts(current, describe(current))
    rows = federation.centre.state.experts()
    assert [row.site for row in rows] == ["north", "south"]
    card, weights = load_expert(federation.centre.expert_folder(rows[0].id))
    entry = next(e for e in federation.centre.ledger.entries() if e.kind == "expert.arrived")
    assert entry.body["sha256"] == sha256_hex(weights) == card.weights_sha256
    assert entry.body["bytes"] == len(weights)


def test_a_known_expert_is_not_asked_for_again(federation) -> None:
    for _ in range(2):
        current = federation.round()
        collect_experts(current, describe(current))
    assert federation.asked_of("north").count("query.experts") == 1
    assert current.tally.bytes_in < 10_000


def test_a_retrained_expert_is_asked_for(federation) -> None:
    current = federation.round()
    collect_experts(current, describe(current))
    federation.sites["north"].train(seed=9)
    current = federation.round()
    collect_experts(current, describe(current))
    assert [one["site"] for one in current.tally.arrived if one["kind"] == "expert"] == ["north"]


def test_a_site_that_is_lost_in_between_is_data(federation, current) -> None:
    roll = describe(current)
    federation.away.add("north")
    collect_experts(current, roll)
    assert [row.site for row in federation.centre.state.experts()] == ["south"]
    assert current.tally.absent == {"north": "SITE_UNREACHABLE"}


def with_card(**changes: Any) -> Callable[[Payload], Payload]:
    def tamper(reply: Payload) -> Payload:
        (card,) = reply.body["cards"]
        return replace(reply, body={**reply.body, "cards": [{**card, **changes}]})

    return tamper


def flip_weights(reply: Payload) -> Payload:
    blobs = {name: blob[:-1] + bytes([blob[-1] ^ 1]) for name, blob in reply.blobs.items()}
    return replace(reply, blobs=blobs)


@pytest.mark.parametrize(
    ("tamper", "code"),
    [
        (flip_weights, Code.CHECKPOINT_CORRUPT),
        (with_card(version=99), Code.CARD_NEWER),
        (with_card(site="south"), Code.IDENTITY_MISMATCH),
        (with_card(weights_sha256="0" * 64), Code.IDENTITY_MISMATCH),
        (with_card(id="../../escape"), Code.WIRE_INVALID),
        (with_card(image_size="wide"), Code.CHECKPOINT_CORRUPT),
    ],
)
def test_an_expert_that_is_not_what_it_should_be_is_refused_and_recorded(
    federation, current, tamper: Callable[[Payload], Payload], code: Code
) -> None:
    federation.tampers["north", "query.experts"] = tamper
    collect_experts(current, describe(current))
    assert [row.site for row in federation.centre.state.experts()] == ["south"]
    refused = [e for e in federation.centre.ledger.entries() if e.kind == "expert.refused"]
    assert [entry.body["code"] for entry in refused] == [int(code)]


def test_weights_stay_where_the_policy_keeps_them(federation, current) -> None:
    from site_client.policy import DatasetPolicy

    roll = describe(current)
    federation.sites["north"].allow(DatasetPolicy(recipients=("echofed",), artefacts=("rows",)))
    collect_experts(current, roll)
    assert [one["code"] for one in current.tally.refused] == [int(Code.EGRESS_DENIED)]
    assert [row.site for row in federation.centre.state.experts()] == ["south"]
