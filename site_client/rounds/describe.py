"""Answer a description: what the centre may know of, which experts may leave, what is here."""

import logging
from collections.abc import Collection
from pathlib import Path

from shared.errors import EchoFedError
from shared.payload import Payload
from site_client.rounds.desk import Desk, open_desk, refusal
from site_client.rounds.exports import prune_exports

log = logging.getLogger(__name__)


def answer(config: Path, request: Payload) -> Payload:
    """Describe every dataset that the policy lets be described; the others are codes only."""
    desk = open_desk(config)
    gone = _drop_withdrawn(desk, set(request.body.get("withdrawn", ())))
    described, refused = [], []
    manifests = [desk.store.manifest(name) for name in desk.store.datasets()]
    for manifest in manifests:
        try:
            described.append(desk.egress.release_description(manifest))
        except EchoFedError as error:
            log.warning("not described: %s", error)
            refused.append(refusal(error))
    contents = {manifest.content_hash() for manifest in manifests}
    prune_exports(desk.store, contents, experts=gone)
    inventory = desk.egress.release_inventory(desk.own_experts(), received=desk.received_hashes())
    receipt = desk.receipt(refused=refused, serving=desk.store.serving_fusion() or "")
    return Payload(
        {
            "datasets": described,
            "withdrawn": desk.egress.release_withdrawals(),
            "inventory": inventory,
            "receipt": receipt,
        }
    )


def _drop_withdrawn(desk: Desk, names: Collection[str]) -> frozenset[str]:
    """Delete received copies of what was withdrawn elsewhere; return the hashes of the experts.

    An expert that was trained here is this site's own to drop, by ``withdraw``.
    """
    cards = [
        card for card in desk.store.expert_cards() if card.id in names and card.site != desk.site
    ]
    fusions = [name for name in desk.store.fusions() if name in names]
    if cards or fusions:
        body = {"experts": [card.id for card in cards], "fusions": fusions}
        desk.ledger.append("withdrawn.dropped", body, actor=desk.site)
    for fusion in fusions:
        desk.store.remove_fusion(fusion)
    for card in cards:
        desk.store.remove_expert(card.id)
    return frozenset(card.weights_sha256 for card in cards)
