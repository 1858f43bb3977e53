"""Answer a description: what the centre may know of, which experts may leave, what is here."""

import logging
from pathlib import Path

from shared.errors import EchoFedError
from shared.payload import Payload
from site_client.rounds.desk import open_desk, refusal
from site_client.rounds.exports import prune_exports

log = logging.getLogger(__name__)


def answer(config: Path, request: Payload) -> Payload:
    """Describe every dataset that the policy lets be described; the others are codes only."""
    desk = open_desk(config)
    described, refused = [], []
    manifests = [desk.store.manifest(name) for name in desk.store.datasets()]
    for manifest in manifests:
        try:
            described.append(desk.egress.release_description(manifest))
        except EchoFedError as error:
            log.warning("not described: %s", error)
            refused.append(refusal(error))
    prune_exports(desk.store, {manifest.content_hash() for manifest in manifests})
    inventory = desk.egress.release_inventory(desk.own_experts(), received=desk.received_hashes())
    receipt = desk.receipt(refused=refused, serving=desk.store.serving_fusion() or "")
    return Payload({"datasets": described, "inventory": inventory, "receipt": receipt})
