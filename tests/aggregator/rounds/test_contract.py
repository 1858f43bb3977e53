"""What every round must bear: a node that is missing or late, a reply that came twice."""

import pytest

from aggregator.serving import PROMOTED
from shared.errors import Code

REQUESTS = (
    "query.describe",
    "query.experts",
    "query.features",
    "evaluate.fusion",
    "query.deliver",
)


@pytest.fixture(params=REQUESTS)
def request_type(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def with_promotion(federation, request_type: str):
    """Let a fusion serve where the round under test is the one that delivers it."""
    if request_type == "query.deliver":
        fusion = federation.increment()["fusion"]
        federation.centre.ledger.append(PROMOTED, {"fusion": fusion}, actor="operator")
    return federation


@pytest.mark.parametrize("code", [Code.SITE_UNREACHABLE, Code.DUPLICATE_REPLY])
def test_a_site_without_a_usable_reply_costs_nothing_but_itself(
    federation, request_type: str, code: Code
) -> None:
    with_promotion(federation, request_type).fails("south", request_type, code)
    outcome = federation.increment()
    assert outcome["fusion"]
    assert {one["site"] for one in outcome["at_sites"]} >= {"north"}
    told = {int(Code[name]) for name in outcome["absent"].values()}
    told |= {one["code"] for one in outcome["refused"]}
    assert told == {int(code)}


def test_the_next_increment_makes_up_for_what_was_missed(federation, request_type: str) -> None:
    failing = with_promotion(federation, request_type).reply_lost("south", request_type)
    federation.increment()
    failing.clear()
    outcome = federation.increment()
    assert outcome["absent"] == {}
    assert outcome["refused"] == []
    assert outcome["report"]["missing"] == []
    assert {one["site"] for one in outcome["at_sites"]} == {"north", "south"}
    if request_type == "query.deliver":
        assert federation.sites["south"].store.serving_fusion() is not None
