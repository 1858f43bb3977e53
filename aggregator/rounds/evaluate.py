"""Fourth round: the sites try a fusion on their own test frames and report figures only."""

from collections.abc import Mapping
from typing import Any

from aggregator.cards import cards_of, weights_to_send, with_trunks
from aggregator.rounds.describe import Roll
from aggregator.rounds.round import Round
from aggregator.schema import Announcement, Evaluation
from aggregator.state import iso
from shared.echo.expert import FusionCard, load_fusion
from shared.echo.schema import to_document
from shared.errors import Code, EchoFedError
from shared.payload import Payload

REQUEST = "evaluate.fusion"


def evaluate(current: Round, roll: Roll, fusion: str) -> None:
    """Ask the present sites for figures of a fusion that they have not reported yet.

    Args:
        current: the round; nobody is asked where nothing is missing.
        roll: who is present and which weights lie there.
        fusion: id of a fusion in the centre's folder.
    """
    centre = current.centre
    card, weights = load_fusion(centre.fusion_folder(fusion))
    cards = with_trunks(centre, cards_of(centre, card))
    experts = [expert.weights_sha256 for expert in cards]
    reported = {(e.site, e.dataset, e.dataset_hash) for e in centre.state.evaluations(fusion)}
    wanted: dict[str, dict[str, Announcement]] = {}
    for row in centre.state.announcements():
        if row.site in roll.offers and (row.site, row.dataset, row.hash) not in reported:
            wanted.setdefault(row.site, {})[row.dataset] = row

    def take(site: str, reply: Payload) -> None:
        receipt = current.tally.note_receipt(site, reply)
        current.tally.note_kept("evaluation", site, receipt)
        roll.note_received(site, (card.weights_sha256, *experts))
        for document in reply.body.get("metrics", ()):
            _store(current, site, document, wanted[site], fusion)

    requests = {
        site: fusion_request(current, card, weights, roll.received[site], datasets=sorted(rows))
        for site, rows in wanted.items()
    }
    current.collect(REQUEST, requests, take)


def fusion_request(
    current: Round, card: FusionCard, weights: bytes, received: frozenset[str], **said: Any
) -> Payload:
    """A request that brings a fusion with its experts, as far as the site lacks them."""
    experts = with_trunks(current.centre, cards_of(current.centre, card))
    blobs = weights_to_send(current.centre, experts, received)
    if card.weights_sha256 not in received:
        blobs[card.id] = weights
    body = {"card": to_document(card), "cards": [to_document(expert) for expert in experts]}
    return Payload(body | said, blobs)


def _store(
    current: Round,
    site: str,
    document: Mapping[str, Any],
    wanted: Mapping[str, Announcement],
    fusion: str,
) -> None:
    row = wanted.get(str(document.get("dataset")))
    if row is None:
        raise EchoFedError(
            Code.WIRE_INVALID, f"site {site!r} reports on a dataset that nobody asked about", ""
        )
    _expect_figures(site, document)
    current.centre.state.add_evaluation(
        Evaluation(fusion, site, row.dataset, row.hash, dict(document), iso(current.clock()))
    )
    current.tally.note_arrival(
        "evaluation", site, repr(sorted(document.items())).encode(), dataset=row.dataset
    )


def _expect_figures(site: str, document: Mapping[str, Any]) -> None:
    """Promotions are judged by the confusion: counts of at least one clip, label by label."""
    labels, confusion = document.get("labels"), document.get("confusion")
    rows = confusion if isinstance(confusion, list | tuple) else ()
    cells = [cell for row in rows if isinstance(row, list | tuple) for cell in row]
    num = len(labels) if isinstance(labels, list | tuple) else 0
    is_square = len(rows) == num and len(cells) == num * num
    are_counts = all(isinstance(cell, int) and cell >= 0 for cell in cells)
    if not (is_square and are_counts and any(cells)):
        raise EchoFedError(
            Code.WIRE_INVALID, f"site {site!r} reports figures without a confusion of counts", ""
        )
