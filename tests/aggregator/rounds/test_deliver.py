from dataclasses import replace
from typing import Any

import pytest

from aggregator.rounds.delivery import run_delivery
from shared.errors import Code
from shared.payload import Payload


@pytest.fixture
def fusion(after_one) -> str:
    return str(after_one.centre.state.fusions()[0].id)


def test_a_delivered_fusion_serves_with_all_its_experts(after_one, fusion: str) -> None:
    outcome = run_delivery(after_one.centre, after_one.ask, fusion)
    assert outcome["serving"] == ["north", "south"]
    store = after_one.sites["north"].store
    assert store.serving_fusion() == fusion
    assert {name.split("-")[0] for name in store.experts()} == {"north", "south"}


def test_a_site_that_serves_it_already_is_not_sent_it_again(after_one, fusion: str) -> None:
    run_delivery(after_one.centre, after_one.ask, fusion)
    run_delivery(after_one.centre, after_one.ask, fusion)
    assert after_one.asked_of("north").count("query.deliver") == 1


def test_an_absent_site_is_named_and_served_later(after_one, fusion: str) -> None:
    after_one.away.add("south")
    outcome = run_delivery(after_one.centre, after_one.ask, fusion)
    assert (outcome["serving"], list(outcome["absent"])) == (["north"], ["south"])
    after_one.away.clear()
    assert run_delivery(after_one.centre, after_one.ask, fusion)["serving"] == ["north", "south"]


def test_altered_weights_do_not_serve(after_one, fusion: str) -> None:
    after_one.sites["north"].store.fusion_folder(fusion).joinpath("weights.safetensors").unlink()
    ask = after_one.ask

    def altering(message_type: str, per_site: dict[str, Payload], **rest: Any) -> Any:
        requests = {
            site: replace(
                request, blobs={name: b"x" + blob for name, blob in request.blobs.items()}
            )
            for site, request in per_site.items()
        }
        return ask(message_type, requests, **rest)

    after_one.ask = altering
    outcome = run_delivery(after_one.centre, after_one.ask, fusion)
    assert [one["code"] for one in outcome["refused"]] == [int(Code.CHECKPOINT_CORRUPT)]
    assert outcome["serving"] == ["south"]
    assert after_one.sites["north"].store.serving_fusion() is None
