"""Answer a request for features: run experts over this site's own frames and send the exports."""

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from shared.echo.expert import ExpertCard
from shared.echo.features import FeatureExport
from shared.echo.manifest import DatasetManifest
from shared.echo.statistics import STATISTICS
from shared.errors import Code, EchoFedError
from shared.payload import Payload
from site_client.condense import condense
from site_client.egress import minimum_patients
from site_client.evaluate import open_experts
from site_client.extract import extract_together
from site_client.rounds.desk import (
    POLICY_FILE,
    Desk,
    expect_body,
    keep_experts,
    open_desk,
    refusal,
)
from site_client.rounds.exports import keep_export, kept_export

log = logging.getLogger(__name__)


def answer(config: Path, request: Payload) -> Payload:
    """Send as many of the exports asked for as fit into a reply, at least one; name the others.

    Every expert that came along is kept; every export passes the door by itself. A pair of a
    dataset and ``STATISTICS`` asks for the moments of what the experts that the request names (by
    default all that came) see in it.
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
            if expert == STATISTICS:
                told = [str(name) for name in request.body.get("experts", cards)]
                data = release_statistics(desk, str(dataset), cards, told)
            else:
                asked = [name for other, name in pairs if other == dataset]
                data = release_features(desk, str(dataset), cards, str(expert), asked=asked)
        except EchoFedError as error:
            log.warning("export not sent: %s", error)
            refused.append(refusal(error, dataset=str(dataset), expert=str(expert)))
            continue
        blobs[f"{dataset}/{expert}"] = data
    return Payload({"receipt": desk.receipt(refused=refused, left=left)}, blobs)


def release_features(
    desk: Desk,
    dataset: str,
    cards: Mapping[str, ExpertCard],
    expert: str,
    *,
    asked: Sequence[str] = (),
) -> bytes:
    """What an expert sees in a dataset of this site, through the door.

    Args:
        desk: the site's.
        dataset: id.
        cards: of the experts that came along.
        expert: id.
        asked: experts whose exports of the dataset are wanted as well; those that look through the
            same network as this one are made in the same pass and kept.
    """
    manifest = desk.store.manifest(dataset)
    return desk.egress.release_export(_export(desk, manifest, cards, expert, asked), manifest)


def release_statistics(
    desk: Desk, dataset: str, cards: Mapping[str, ExpertCard], experts: Sequence[str]
) -> bytes:
    """Moments of what these experts see in a dataset of this site, through the door."""
    manifest = desk.store.manifest(dataset)
    exports = [_export(desk, manifest, cards, expert, experts) for expert in experts]
    minimum = minimum_patients(desk.store.root / POLICY_FILE, dataset)
    statistics = condense(exports, minimum=minimum, created=_now())
    return desk.egress.release_statistics(statistics, manifest)


def _export(
    desk: Desk,
    manifest: DatasetManifest,
    cards: Mapping[str, ExpertCard],
    expert: str,
    asked: Sequence[str],
) -> FeatureExport:
    """An export as kept here, or made now, in one pass with those asked for on the same trunk."""
    if expert not in cards:
        raise EchoFedError(Code.EXPERT_UNKNOWN, f"no card of expert {expert!r} came along")
    first = cards[expert]
    others = [cards[name] for name in asked if name in cards and name != expert]
    mates = [card for card in others if _network(card) == _network(first)]
    content = manifest.content_hash()
    variant = f"{desk.settings.extract.passes}-{desk.policy_revision}"

    def make() -> FeatureExport:
        export, *made = _extract(desk, manifest, [first, *mates])
        for card, other in zip(mates, made, strict=False):
            keep_export(desk.store, content, card, variant, other)
        return export

    return kept_export(desk.store, content, first, variant, make)


def _network(card: ExpertCard) -> str:
    return card.trunk or card.id


def _extract(
    desk: Desk, manifest: DatasetManifest, experts: Sequence[ExpertCard]
) -> list[FeatureExport]:
    """Exports of all in one pass; of the first alone where another one stands in the way."""
    extract = partial(
        extract_together,
        desk.store,
        manifest,
        settings=desk.settings.extract,
        policy_version=desk.policy_revision,
        created=_now(),
    )
    names = [card.id for card in experts]
    if len(names) > 1:
        try:
            return extract(open_experts(desk.store, names))
        except EchoFedError as error:
            log.warning("experts on one trunk are extracted one by one: %s", error)
    return extract(open_experts(desk.store, names[:1]))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
