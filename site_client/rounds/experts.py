"""Answer a request for experts: cards and weights, as far as their datasets' policy allows."""

import logging
from pathlib import Path

from shared.echo.expert import load_expert
from shared.errors import Code, EchoFedError
from shared.payload import Payload
from site_client.rounds.desk import Desk, expect_body, open_desk, refusal

log = logging.getLogger(__name__)


def answer(config: Path, request: Payload) -> Payload:
    """Send the experts that are asked for by id; a refused one is named with its code."""
    desk = open_desk(config)
    (names,) = expect_body(request, "ids")
    cards, blobs, refused = [], {}, []
    for name in names:
        try:
            document, weights = release_expert(desk, str(name))
        except EchoFedError as error:
            log.warning("expert not sent: %s", error)
            refused.append(refusal(error, expert=str(name)))
            continue
        cards.append(document)
        blobs[str(name)] = weights
    return Payload({"cards": cards, "receipt": desk.receipt(refused=refused)}, blobs)


def release_expert(desk: Desk, name: str) -> tuple[dict[str, object], bytes]:
    """An expert of this site through the door: its card and its weights."""
    card, weights = load_expert(desk.store.require_expert(name))
    if card.site != desk.site:
        raise EchoFedError(
            Code.EGRESS_DENIED, f"expert {name} is of another site", "ask the site that trained it"
        )
    here = [dataset for dataset in card.datasets if dataset in desk.store.datasets()]
    manifests = [desk.store.manifest(dataset) for dataset in here]
    return desk.egress.release_expert(card, weights, manifests)
