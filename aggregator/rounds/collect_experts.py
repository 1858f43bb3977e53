"""Second round: fetch the experts that the centre does not know by the hash of their weights."""

from collections.abc import Mapping
from typing import Any

from aggregator.cards import expect_not_withdrawn, withdrawn_experts
from aggregator.rounds.describe import Offer, Roll
from aggregator.rounds.round import Round
from shared.echo.expert import ExpertCard, read_expert_card, save_checkpoint
from shared.errors import Code, EchoFedError
from shared.files import expect_file_name
from shared.payload import Payload

REQUEST = "query.experts"


def collect_experts(current: Round, roll: Roll) -> None:
    """Fetch what is new and store card and weights of each expert under its id.

    Args:
        current: the round; nobody is asked where nothing is new.
        roll: what the sites offer.
    """
    known = {row.weights_sha256 for row in current.centre.state.experts()}
    known |= set(withdrawn_experts(current.centre).values())
    wanted = {
        site: {offer.id: offer for offer in offers if offer.sha256 not in known}
        for site, offers in roll.offers.items()
    }

    def take(site: str, reply: Payload) -> None:
        receipt = current.tally.note_receipt(site, reply)
        current.tally.note_kept("expert", site, receipt)
        documents = reply.body.get("cards", ())
        for document in sorted(documents, key=lambda one: bool(one.get("trunk"))):  # trunks first
            name = str(document.get("id", ""))[:128]
            try:
                _store(current, site, document, reply.blobs.get(name, b""), wanted[site])
            except EchoFedError as error:
                if error.code is Code.DISK_FULL:
                    raise
                current.tally.note_refusal("expert", site, error, expert=name)

    requests = {site: Payload({"ids": sorted(offers)}) for site, offers in wanted.items() if offers}
    current.collect(REQUEST, requests, take)


def _store(
    current: Round,
    site: str,
    document: dict[str, Any],
    weights: bytes,
    wanted: Mapping[str, Offer],
) -> None:
    name = str(document.get("id", ""))
    if name not in wanted:
        raise EchoFedError(
            Code.WIRE_INVALID,
            f"site {site!r} sent an expert that nobody asked for",
            "it was dropped",
        )
    card = read_expert_card(document)
    taken = any(row.id == name and row.site != site for row in current.centre.state.experts())
    if card.site != site or card.weights_sha256 != wanted[name].sha256 or taken:
        raise EchoFedError(
            Code.IDENTITY_MISMATCH,
            f"expert {name!r} of site {site!r} is not the one it announced",
            "the site may train and announce it again",
        )
    expect_not_withdrawn(current.centre, card)
    _expect_trunk(current, card)
    save_checkpoint(current.centre.expert_folder(expect_file_name(name)), card, weights)
    current.tally.note_arrival("expert", site, weights, expert=name)  # before it counts
    current.centre.state.add_expert(card, now=current.clock())


def _expect_trunk(current: Round, card: ExpertCard) -> None:
    """What an expert stands on is stored already, and its lineage says so: both go, or none."""
    if not card.trunk:
        return
    if card.parent != card.trunk:
        raise EchoFedError(
            Code.WIRE_INVALID,
            f"expert {card.id} stands on trunk {card.trunk} and names another parent",
            "the site may train it again",
        )
    full = [row for row in current.centre.state.experts() if not row.card.get("trunk")]
    if (card.trunk, card.trunk_sha256) not in {(row.id, row.weights_sha256) for row in full}:
        raise EchoFedError(
            Code.EXPERT_UNKNOWN,
            f"expert {card.id} stands on trunk {card.trunk}, which the centre does not have",
            "let the site that trained the trunk take part in an increment first",
        )
