"""Answer an evaluation: try a fusion on this site's own test frames and report figures only."""

import logging
from pathlib import Path
from typing import Any

from shared.echo.expert import FusionCard, read_fusion_card
from shared.errors import EchoFedError
from shared.payload import Payload
from site_client.evaluate import evaluate_fusion
from site_client.rounds.desk import (
    Desk,
    expect_body,
    keep_experts,
    keep_fusion,
    open_desk,
    refusal,
)

log = logging.getLogger(__name__)


def answer(config: Path, request: Payload) -> Payload:
    """Report figures of every dataset asked for, as far as the policy allows."""
    desk = open_desk(config)
    document, datasets, _ = expect_body(request, "card", "datasets", "cards")
    card = read_fusion_card(document)
    keep_experts(desk, request)
    keep_fusion(desk, card, request)
    metrics, refused = [], []
    for dataset in datasets:
        try:
            metrics.append(_release(desk, card, str(dataset)))
        except EchoFedError as error:
            log.warning("not evaluated: %s", error)
            refused.append(refusal(error, dataset=str(dataset)))
    return Payload({"metrics": metrics, "receipt": desk.receipt(refused=refused)})


def _release(desk: Desk, card: FusionCard, dataset: str) -> dict[str, Any]:
    manifest = desk.store.manifest(dataset)
    return desk.egress.release_metrics(evaluate_fusion(desk.store, card.id, dataset), manifest)
