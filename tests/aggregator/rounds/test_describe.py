from dataclasses import replace
from typing import Any

import pytest

from aggregator.rounds.describe import describe
from aggregator.state import iso
from shared.errors import Code
from shared.payload import Payload


def test_every_site_announces_its_datasets_and_offers_its_expert(federation, current) -> None:
    roll = describe(current)
    assert roll.present == ("north", "south")
    assert [row.dataset for row in federation.centre.state.announcements()] == ["echo", "echo"]
    assert [len(offers) for offers in roll.offers.values()] == [1, 1]
    kinds = [entry.kind for entry in federation.centre.ledger.entries()]
    assert kinds == ["description.arrived", "description.arrived"]


def test_counts_below_the_sites_minimum_stay_there(federation, current) -> None:
    site = federation.sites["north"]
    site.allow(replace_consent(minimum_patients_per_view=10))
    describe(current)
    north = federation.centre.state.announcements()[0]
    assert north.patients == {"4CH": None, "2CH": None}


def test_a_dataset_that_the_policy_does_not_name_is_not_announced(federation, current) -> None:
    federation.sites["north"].allow(dataset="another")
    roll = describe(current)
    assert [row.site for row in federation.centre.state.announcements()] == ["south"]
    assert roll.offers["north"] == ()


def test_an_absent_site_is_data_and_its_absence_is_dated(federation, current) -> None:
    federation.away.add("south")
    roll = describe(current)
    assert roll.present == ("north",)
    south = federation.centre.state.sites()[1]
    assert south.absent_since == iso(current.clock())
    assert current.tally.absent == {"south": "SITE_UNREACHABLE"}


def test_an_absent_site_keeps_what_it_announced(federation) -> None:
    describe(federation.round())
    federation.away.add("south")
    describe(federation.round())
    assert len(federation.centre.state.announcements()) == 2


@pytest.mark.parametrize(
    ("part", "code"),
    [
        ({"datasets": "all"}, Code.WIRE_INVALID),
        ({"datasets": [{"dataset": "echo"}]}, Code.WIRE_INVALID),
        ({"inventory": {"experts": "none"}}, Code.WIRE_INVALID),
        ({"receipt": None}, Code.WIRE_INVALID),
    ],
)
def test_a_description_that_does_not_fit_is_refused_and_changes_nothing(
    federation, current, part: dict[str, Any], code: Code
) -> None:
    federation.tampers["north", "query.describe"] = lambda reply: replace(
        reply, body={**reply.body, **part}
    )
    roll = describe(current)
    assert roll.present == ("south",)
    assert [one["code"] for one in current.tally.refused] == [int(code)]
    assert [row.site for row in federation.centre.state.announcements()] == ["south"]


def test_a_view_of_a_later_ontology_is_refused(federation, current) -> None:
    def add_view(reply: Payload) -> Payload:
        (document,) = reply.body["datasets"]
        labels = {**document["labels"], "new": ["VIEW-OF-TOMORROW"]}
        return replace(reply, body={**reply.body, "datasets": [{**document, "labels": labels}]})

    federation.tampers["north", "query.describe"] = add_view
    assert describe(current).present == ("south",)
    assert [one["code"] for one in current.tally.refused] == [int(Code.VIEW_UNKNOWN)]


def replace_consent(**changes: Any):
    from site_client.policy import DatasetPolicy

    consent = {
        "purposes": ("fusion", "evaluation"),
        "recipients": ("echofed",),
        "artefacts": ("rows", "expert_weights"),
    }
    return DatasetPolicy(**{**consent, **changes})
