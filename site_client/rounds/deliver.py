"""Answer a delivery: keep a promoted fusion with its experts and let predictions use it."""

from pathlib import Path

from shared.echo.expert import read_fusion_card
from shared.payload import Payload
from site_client.rounds.desk import expect_body, keep_experts, keep_fusion, open_desk


def answer(config: Path, request: Payload) -> Payload:
    """Store what came, check that nothing is missing, and only then switch."""
    desk = open_desk(config)
    document, _ = expect_body(request, "card", "cards")
    card = read_fusion_card(document)
    keep_experts(desk, request)
    keep_fusion(desk, card, request)
    desk.store.set_serving(card.id)
    desk.ledger.append("fusion.serving", {"fusion": card.id}, actor=desk.site)
    return Payload({"receipt": desk.receipt(serving=card.id)})
