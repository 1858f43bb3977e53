"""Answer a request for features: run experts over this site's own frames and send the exports."""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from shared.echo.expert import ExpertCard
from shared.echo.features import FeatureExport
from shared.errors import Code, EchoFedError
from shared.payload import Payload
from site_client.evaluate import open_expert
from site_client.extract import extract
from site_client.rounds.desk import Desk, expect_body, keep_experts, open_desk, refusal
from site_client.rounds.exports import kept_export

log = logging.getLogger(__name__)


def answer(config: Path, request: Payload) -> Payload:
    """Send as many of the exports asked for as fit into a reply, at least one; name the others.

    Every expert that came along is kept; every export passes the door by itself.
    """
    desk = open_desk(config)
    pairs, max_bytes, _ = expect_body(request, "pairs", "max_bytes", "cards")
    cards = {card.id: card for card in keep_experts(desk, request)}
    blobs: dict[str, bytes] = {}
    refused, left = [], []
    for dataset, expert in pairs:
        if blobs and sum(map(len, blobs.values())) >= int(max_bytes):
            left.append([dataset, expert])
            continue
        try:
            blobs[f"{dataset}/{expert}"] = release_features(desk, str(dataset), cards, str(expert))
        except EchoFedError as error:
            log.warning("export not sent: %s", error)
            refused.append(refusal(error, dataset=str(dataset), expert=str(expert)))
    return Payload({"receipt": desk.receipt(refused=refused, left=left)}, blobs)


def release_features(
    desk: Desk, dataset: str, cards: Mapping[str, ExpertCard], expert: str
) -> bytes:
    """What an expert sees in a dataset of this site, through the door."""
    if expert not in cards:
        raise EchoFedError(Code.EXPERT_UNKNOWN, f"no card of expert {expert!r} came along")
    manifest = desk.store.manifest(dataset)
    settings = desk.settings.extract

    def make() -> FeatureExport:
        return extract(
            desk.store,
            manifest,
            open_expert(desk.store, expert),
            settings,
            policy_version=desk.policy_revision,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    variant = f"{settings.passes}-{desk.policy_revision}"
    export = kept_export(desk.store, manifest.content_hash(), cards[expert], variant, make)
    return desk.egress.release_export(export, manifest)
