"""What every answer of a site needs: its settings, its store, its door out, its stopwatch."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from shared.echo.expert import (
    CARD_FILE,
    ExpertCard,
    FusionCard,
    load_expert,
    load_fusion,
    read_expert_card,
    save_checkpoint,
)
from shared.errors import Code, EchoFedError
from shared.files import expect_file_name, read_json
from shared.ledger import Ledger
from shared.payload import Payload
from shared.settings import load_settings
from site_client.egress import Egress, open_egress
from site_client.settings import SiteSettings
from site_client.store import SiteStore

log = logging.getLogger(__name__)
POLICY_FILE = "policy.yaml"


@dataclass(frozen=True, slots=True)
class Desk:
    """A site that answers one request.

    Args:
        started: seconds of the wall clock and of this process at the start of the answer.
    """

    settings: SiteSettings
    store: SiteStore
    egress: Egress
    ledger: Ledger
    policy_revision: int
    started: tuple[float, float]

    @property
    def site(self) -> str:
        return self.settings.site

    def receipt(self, **said: Any) -> dict[str, Any]:
        """How the request went, through the door: release, milliseconds and what is given.

        Flower starts a process for each message; what starting cost it is told apart.
        """
        wall, cpu = self.started
        return self.egress.release_receipt(
            {
                "release": version("echofed"),
                "milliseconds": round(1000 * (time.monotonic() - wall)),
                "cpu_milliseconds": round(1000 * (time.process_time() - cpu)),
                "start_cpu_milliseconds": round(1000 * cpu),
                **said,
            }
        )

    def received(self, kind: str, subject: str, sha256: str, num_bytes: int) -> None:
        """Remember in the ledger what the centre sent."""
        body = {"subject": subject, "sha256": sha256, "bytes": num_bytes}
        self.ledger.append(f"{kind}.received", body, actor=self.site)

    def own_experts(self) -> tuple[ExpertCard, ...]:
        """This site's newest expert of each group of datasets."""
        newest: dict[tuple[str, ...], ExpertCard] = {}
        for name in self.store.experts():
            card = read_expert_card(read_json(self.store.expert_folder(name) / CARD_FILE))
            known = newest.get(card.datasets)
            if card.site == self.site and (known is None or known.created <= card.created):
                newest[card.datasets] = card
        return tuple(newest.values())

    def received_hashes(self) -> tuple[str, ...]:
        """Hashes of the weights that need not be sent here again; damaged ones are left out."""
        found = []
        for name in self.store.experts():
            found += _intact(load_expert, self.store.expert_folder(name))
        for name in self.store.fusions():
            found += _intact(load_fusion, self.store.fusion_folder(name))
        return tuple(found)


def _intact(
    load: Callable[[Path], tuple[ExpertCard | FusionCard, bytes]], folder: Path
) -> list[str]:
    try:
        return [load(folder)[0].weights_sha256]
    except EchoFedError as error:
        log.warning("not counted as received: %s", error)
        return []


def open_desk(config: Path, *, recipient: str = "") -> Desk:
    """Open the site that a settings file describes.

    Args:
        config: settings file.
        recipient: who will receive what is released; by default the site's own federation.

    Raises:
        EchoFedError: CONFIG_INVALID at a site without a centre where no recipient is named, and
            what settings and policy raise.
    """
    settings = load_settings(SiteSettings, config)
    if not recipient and settings.centre is None:
        raise EchoFedError(
            Code.CONFIG_INVALID,
            "this site belongs to no federation",
            "run init with the centre's kit",
        )
    root = config.parent / settings.folder
    store = SiteStore(root)
    ledger = Ledger(store.ledger_path)
    to_whom = recipient or (settings.centre.federation if settings.centre else "")
    egress = open_egress(root / POLICY_FILE, ledger, site=settings.site, recipient=to_whom)
    started = (time.monotonic(), time.process_time())
    return Desk(settings, store, egress, ledger, egress.policy_revision, started)


def keep_experts(desk: Desk, request: Payload) -> tuple[ExpertCard, ...]:
    """Store the experts that came along and find those that were here, as the cards name them.

    Raises:
        EchoFedError: CHECKPOINT_CORRUPT for weights that are not what their card says,
            EXPERT_UNKNOWN for a card whose weights neither came nor are here, CARD_NEWER,
            WIRE_INVALID.
    """
    cards = tuple(read_expert_card(document) for document in request.body["cards"])
    for card in cards:
        folder = desk.store.expert_folder(expect_file_name(card.id))
        if card.id in request.blobs:
            weights = request.blobs[card.id]
            save_checkpoint(folder, card, weights)
            desk.received("expert", card.id, card.weights_sha256, len(weights))
            continue
        here, _ = load_expert(desk.store.require_expert(card.id))
        if here.weights_sha256 != card.weights_sha256:
            raise EchoFedError(
                Code.CHECKPOINT_CORRUPT,
                f"expert {card.id} here is not the one asked for",
                "send its weights along",
            )
    return cards


def keep_fusion(desk: Desk, card: FusionCard, request: Payload) -> None:
    """Store the fusion that came along, or find it here.

    Raises:
        EchoFedError: CHECKPOINT_CORRUPT, FUSION_UNKNOWN, or EXPERT_UNKNOWN for a missing expert.
    """
    for block in card.blocks:
        desk.store.require_expert(block.expert)
    folder = desk.store.fusion_folder(expect_file_name(card.id))
    if card.id in request.blobs:
        save_checkpoint(folder, card, request.blobs[card.id])
        desk.received("fusion", card.id, card.weights_sha256, len(request.blobs[card.id]))
    desk.store.require_fusion(card.id)


def refusal(error: EchoFedError, **names: str) -> dict[str, str | int]:
    """What the centre learns of a refusal: the names it used itself and the number."""
    return {**names, "code": int(error.code)}


def expect_body(request: Payload, *names: str) -> Sequence[Any]:
    """The named parts of a request.

    Raises:
        EchoFedError: WIRE_INVALID where one is missing.
    """
    missing = [name for name in names if name not in request.body]
    if missing:
        raise EchoFedError(
            Code.WIRE_INVALID, f"a request lacks {', '.join(missing)}", "update this installation"
        )
    return [request.body[name] for name in names]
