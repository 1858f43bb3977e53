"""Segmenters and synthesizers from the centre: fetched, checked, kept under their alias."""

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from shared.echo.expert import CARD_FILE, WEIGHTS_FILE
from shared.echo.model_card import ModelCard, load_model_files, read_model_card
from shared.echo.segmenter import SegmenterCard, load_segmenter_files
from shared.echo.synthesizer import SynthesizerCard, load_synthesizer_files
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
C = TypeVar("C", SegmenterCard, SynthesizerCard, ModelCard)


def fetch_from_centre(
    store: SiteStore, centre: CentreSettings | None, alias: str, *, site: str, now: datetime
) -> ModelCard:
    """Fetch a model from the centre's model service, keep it, and let the alias stand for it.

    Args:
        store: the site's.
        centre: where the centre is.
        alias: what it is called there, or its id.
        site: site code, for the ledger.
        now: aware time.

    Raises:
        EchoFedError: MODEL_UNKNOWN where the centre has no segmenter or synthesizer of that name,
            SIGNATURE_INVALID, CHECKPOINT_CORRUPT, CARD_NEWER, IDENTITY_MISMATCH where another model
            here has its id, and as ``open_services``; what was here stays.
    """
    with open_services(store, centre, now=now, deadline_s=DEADLINE_S) as channel:
        ca_pem = Identity(store.identity_folder).ca.read_bytes()
        model = fetch_model(channel, alias, ca_pem=ca_pem, limit_bytes=LIMIT_BYTES)
    card = read_model_card(json.loads(model.card))
    _keep(store, card, model)
    if alias != card.id:
        store.set_alias(alias, card.id)
    body = {"subject": card.id, "alias": alias, "sha256": card.weights_sha256}
    size = {"bytes": len(model.weights)}
    Ledger(store.ledger_path).append(f"{card.kind}.received", body | size, actor=site)
    return card


def load_trusted(store: SiteStore, segmenter: str, *, site: str) -> tuple[SegmenterCard, bytes]:
    """A segmenter that this site trained, or that its centre signed, with its weights.

    Raises:
        EchoFedError: MODEL_UNKNOWN, CARD_NEWER, CHECKPOINT_CORRUPT for altered weights,
            SIGNATURE_INVALID for an altered card and for one of elsewhere that nobody signed.
    """
    folder = store.require_segmenter(segmenter)
    return _load_trusted(store, folder, load_segmenter_files, site=site)


def load_trusted_synthesizer(
    store: SiteStore, synthesizer: str, *, site: str
) -> tuple[SynthesizerCard, bytes]:
    """A synthesizer that this site trained, or that its centre signed; raises as above."""
    folder = store.require_synthesizer(synthesizer)
    return _load_trusted(store, folder, load_synthesizer_files, site=site)


def load_trusted_folder(store: SiteStore, folder: Path, *, site: str) -> tuple[ModelCard, bytes]:
    """A model of either kind by its folder at this site; raises as above."""
    return _load_trusted(store, folder, load_model_files, site=site)


def _load_trusted(
    store: SiteStore, folder: Path, load: Callable[[Path], tuple[C, bytes]], *, site: str
) -> tuple[C, bytes]:
    card, weights = load(folder)
    signature, ca = folder / SIGNATURE_FILE, Identity(store.identity_folder).ca
    if card.site != site or signature.is_file():
        come = signature.is_file() and ca.is_file()
        expect_signed(
            (folder / CARD_FILE).read_bytes(),
            signature.read_bytes() if come else b"",
            ca_pem=ca.read_bytes() if come else b"",
        )
    return card, weights


def _keep(store: SiteStore, card: ModelCard, model: FetchedModel) -> None:
    """The bytes that were signed, the card last: a folder with a card is whole."""
    name = expect_file_name(card.id)
    folder = store.model_folder(card.kind, name)
    known = store.models().get(name)
    if known is not None:
        here = read_json(known / CARD_FILE)
        if known != folder or here.get("weights_sha256") != card.weights_sha256:
            raise EchoFedError(
                Code.IDENTITY_MISMATCH,
                f"another model of this site is called {card.id}",
                "ask the centre where its own comes from",
            )
    write_bytes(folder / WEIGHTS_FILE, model.weights)
    write_bytes(folder / SIGNATURE_FILE, model.signature)
    write_bytes(folder / CARD_FILE, model.card)
