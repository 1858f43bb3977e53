"""First round: every admitted site describes its datasets and names the experts it would send."""

import json
import logging
from collections.abc import Container, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from aggregator.cards import withdrawn_datasets, withdrawn_experts, withdrawn_fusions
from aggregator.rounds.round import Round
from aggregator.schema import Announcement
from aggregator.state import iso
from shared.echo.ontology import build_label_map
from shared.echo.origin import Origin
from shared.errors import Code, EchoFedError
from shared.payload import Payload

log = logging.getLogger(__name__)
REQUEST = "query.describe"


@dataclass(frozen=True, slots=True)
class Offer:
    """An expert that a site is willing to send."""

    id: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Roll:
    """Who answered.

    Args:
        offers: site -> experts it would send, for every site that answered.
        received: site -> hashes of the weights that lie there already.
        serving: site -> fusion that its predictions use.
    """

    offers: dict[str, tuple[Offer, ...]]
    received: dict[str, frozenset[str]]
    serving: dict[str, str]

    @property
    def present(self) -> tuple[str, ...]:
        """Sites that answered, by code."""
        return tuple(sorted(self.offers))

    def note_received(self, site: str, hashes: Iterable[str]) -> None:
        """Weights of these hashes lie at the site now."""
        self.received[site] = self.received[site] | frozenset(hashes)

    def without(self, sites: Container[str]) -> "Roll":
        """The roll of the other sites."""
        here = {site: offers for site, offers in self.offers.items() if site not in sites}
        return Roll(here, self.received, self.serving)


@dataclass(frozen=True, slots=True)
class _Described:
    dataset: str
    hash: str
    origin: Origin
    labels: dict[str, list[str]]
    patients: dict[str, int | None]
    policy_revision: int
    purposes: list[str]
    artefacts: list[str]


@dataclass(frozen=True, slots=True)
class _Inventory:
    experts: list[Offer]
    received: list[str]


def describe(current: Round) -> Roll:
    """Ask every admitted site, whoever is connected; who does not answer is absent from now on.

    The request names what was withdrawn, so that sites drop their copies of it.
    """
    roll = Roll({}, {}, {})
    state = current.centre.state

    def take(site: str, reply: Payload) -> None:
        receipt = current.tally.note_receipt(site, reply)
        now = current.clock()
        _note_withdrawals(current, site, reply.body.get("withdrawn", []))
        parts = _without_withdrawn(current, site, _datasets(site, reply.body))
        described = [_announcement(site, part, now=now) for part in parts]
        inventory: _Inventory = _read(_Inventory, reply.body.get("inventory"), site)
        state.note_seen(site, now=now)
        state.announce(site, described, now=now)
        for part in parts:
            data = json.dumps(asdict(part), sort_keys=True).encode()
            current.tally.note_arrival("description", site, data, dataset=part.dataset)
        roll.offers[site] = tuple(inventory.experts)
        roll.received[site] = frozenset(inventory.received)
        roll.serving[site] = str(receipt.get("serving", ""))

    gone = sorted({*withdrawn_experts(current.centre), *withdrawn_fusions(current.centre)})
    requests = {site.code: Payload({"withdrawn": gone}) for site in state.sites()}
    current.collect(REQUEST, requests, take)
    for site in current.tally.absent:
        state.note_absent(site, now=current.clock())
    return roll


def _note_withdrawals(current: Round, site: str, asked: object) -> None:
    """Keep in mind what a site takes back of all that it announced; an operator carries it out."""
    announced = (*current.centre.state.announcements(), *current.centre.state.withdrawn())
    known = {row.dataset for row in announced if row.site == site}
    for dataset in sorted(known.intersection(_read(list[str], asked, site))):
        if current.centre.state.ask_withdrawal(site, dataset, now=current.clock()):
            body = {"dataset": f"{site}/{dataset}"}
            current.centre.ledger.append("withdrawal.asked", body, actor=site)
            log.warning("%s/%s is withdrawn by its site: run withdraw", site, dataset)


def _without_withdrawn(current: Round, site: str, parts: list[_Described]) -> list[_Described]:
    """A name that was taken back does not come again; the refusal is recorded."""
    gone = withdrawn_datasets(current.centre)
    for part in parts:
        if f"{site}/{part.dataset}" in gone:
            error = EchoFedError(
                Code.DATASET_WITHDRAWN, f"dataset {part.dataset!r} of site {site!r} was withdrawn"
            )
            current.tally.note_refusal("description", site, error, dataset=part.dataset)
    return [part for part in parts if f"{site}/{part.dataset}" not in gone]


def _datasets(site: str, body: Mapping[str, Any]) -> list[_Described]:
    parts = body.get("datasets")
    if not isinstance(parts, list):
        raise EchoFedError(Code.WIRE_INVALID, f"the description of site {site!r} has no datasets")
    return [_read(_Described, part, site) for part in parts]


def _announcement(site: str, part: _Described, *, now: datetime) -> Announcement:
    build_label_map(part.labels)  # a view that this release does not know is refused here
    return Announcement(
        site=site,
        dataset=part.dataset,
        hash=part.hash,
        origin=part.origin,
        labels=part.labels,
        patients=part.patients,
        artefacts=part.artefacts,
        policy_revision=part.policy_revision,
        announced=iso(now),
    )


def _read(kind: Any, document: object, site: str) -> Any:
    try:
        return TypeAdapter(kind).validate_python(document)
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise EchoFedError(
            Code.WIRE_INVALID,
            f"the description of site {site!r} does not fit at {place!r}",
            "both ends should run the same release",
        ) from error
