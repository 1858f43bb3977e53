"""Segmenters from the centre: fetched, checked, kept under their alias, and checked again later."""

import json
from datetime import datetime

from shared.echo.expert import CARD_FILE, WEIGHTS_FILE
from shared.echo.segmenter import SegmenterCard, load_segmenter_files, read_segmenter_card
from shared.errors import Code, EchoFedError
from shared.files import expect_file_name, read_json, write_bytes
from shared.ledger import Ledger
from shared.services.models import FetchedModel, fetch_model
from shared.signature import SIGNATURE_FILE, expect_signed
from site_client.connection import open_services
from site_client.identity import Identity
from site_client.settings import CentreSettings
from site_client.store import SiteStore

LIMIT_BYTES = 2 * 1024**3
DEADLINE_S = 600.0  # what a server takes at most


def fetch_segmenter(
    store: SiteStore, centre: CentreSettings | None, alias: str, *, site: str, now: datetime
) -> SegmenterCard:
    """Fetch a segmenter from the centre's model service, keep it, and let the alias stand for it.

    Args:
        store: the site's.
        centre: where the centre is.
        alias: what it is called there, or its id.
        site: site code, for the ledger.
        now: aware time.

    Raises:
        EchoFedError: MODEL_UNKNOWN where the centre has none of that name, SIGNATURE_INVALID,
            CHECKPOINT_CORRUPT, CARD_NEWER, IDENTITY_MISMATCH where another segmenter here has its
            id, and as ``open_services``; what was here stays.
    """
    with open_services(store, centre, now=now, deadline_s=DEADLINE_S) as channel:
        ca_pem = Identity(store.identity_folder).ca.read_bytes()
        model = fetch_model(channel, alias, ca_pem=ca_pem, limit_bytes=LIMIT_BYTES)
    card = _read(model.card, alias)
    _keep(store, card, model)
    if alias != card.id:
        store.set_alias(alias, card.id)
    body = {"subject": card.id, "alias": alias, "sha256": card.weights_sha256}
    size = {"bytes": len(model.weights)}
    Ledger(store.ledger_path).append("segmenter.received", body | size, actor=site)
    return card


def load_trusted(store: SiteStore, segmenter: str, *, site: str) -> tuple[SegmenterCard, bytes]:
    """A segmenter that this site trained, or that its centre signed, with its weights.

    Raises:
        EchoFedError: MODEL_UNKNOWN, CARD_NEWER, CHECKPOINT_CORRUPT for altered weights,
            SIGNATURE_INVALID for an altered card and for one of elsewhere that nobody signed.
    """
    folder = store.require_segmenter(segmenter)
    card, weights = load_segmenter_files(folder)
    signature, ca = folder / SIGNATURE_FILE, Identity(store.identity_folder).ca
    if card.site != site or signature.is_file():
        come = signature.is_file() and ca.is_file()
        expect_signed(
            (folder / CARD_FILE).read_bytes(),
            signature.read_bytes() if come else b"",
            ca_pem=ca.read_bytes() if come else b"",
        )
    return card, weights


def _read(card: bytes, alias: str) -> SegmenterCard:
    document = json.loads(card)
    if document.get("kind") != "segmenter":
        raise EchoFedError(
            Code.MODEL_UNKNOWN,
            f"{alias[:80]!r} is no segmenter at the centre",
            "fusions and experts come with the rounds: run federate",
        )
    return read_segmenter_card(document)


def _keep(store: SiteStore, card: SegmenterCard, model: FetchedModel) -> None:
    """The bytes that were signed, the card last: a folder with a card is whole."""
    folder = store.segmenter_folder(expect_file_name(card.id))
    if card.id in store.segmenters():
        here = read_json(folder / CARD_FILE)
        if here.get("weights_sha256") != card.weights_sha256:
            raise EchoFedError(
                Code.IDENTITY_MISMATCH,
                f"another segmenter of this site is called {card.id}",
                "ask the centre where its own comes from",
            )
    write_bytes(folder / WEIGHTS_FILE, model.weights)
    write_bytes(folder / SIGNATURE_FILE, model.signature)
    write_bytes(folder / CARD_FILE, model.card)
