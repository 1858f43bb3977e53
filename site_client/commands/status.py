"""``echofed-site status``: what this site has."""

from pathlib import Path
from typing import Any

from shared.console import emit, table
from shared.echo.expert import CARD_FILE, read_expert_card
from shared.echo.model_card import KINDS, ModelCard, ModelKind, kind_folder, read_model_card
from shared.files import read_json
from shared.ledger import Ledger
from site_client.commands.options import CONFIG_FILE, ConfigOption, JsonOption, SetOption, open_site
from site_client.quarantine import waiting_clips
from site_client.store import SiteStore


def status(
    config: ConfigOption = Path(CONFIG_FILE),
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """List datasets and models, and check the ledger."""
    site = open_site(config, overrides)
    store = site.store
    centre = site.settings.centre
    document: dict[str, Any] = {
        "site": site.settings.site,
        "centre": centre.address if centre else None,
        "federation": centre.federation if centre else None,
        "datasets": [_dataset(store, name) for name in store.datasets()],
        "experts": [_expert(store, name) for name in store.experts()],
        **{kind_folder(kind): _models(store, kind) for kind in KINDS},
        "fusions": list(store.fusions()),
        "serving": store.serving_fusion(),
        "waiting_for_review": len(waiting_clips(store)),
        "ledger_entries": Ledger(store.ledger_path).verify(),
    }
    facts = ("site", "centre", "federation", "serving", "waiting_for_review", "ledger_entries")
    tables = [table("site", ("what", "value"), [(name, str(document[name])) for name in facts])]
    for kind in ("datasets", "experts", *map(kind_folder, KINDS)):
        rows = document[kind]
        if rows:
            tables.append(table(kind, tuple(rows[0]), [tuple(row.values()) for row in rows]))
    emit(document, as_json=as_json, tables=tables)


def _dataset(store: SiteStore, name: str) -> dict[str, Any]:
    manifest = store.manifest(name)
    return {
        "dataset": name,
        "origin": manifest.origin,
        "labels": len(manifest.labels),
        "patients": manifest.num_patients(),
        "clips": len(manifest.clips),
        "annotated": sum(bool(clip.structures) for clip in manifest.clips),
        "frames": sum(clip.num_frames for clip in manifest.clips),
        "kept_pixels": manifest.kept_pixels,
    }


def _expert(store: SiteStore, name: str) -> dict[str, Any]:
    card = read_expert_card(read_json(store.expert_folder(name) / CARD_FILE))
    return {
        "expert": name,
        "site": card.site,
        "datasets": " ".join(card.datasets),
        "backbone": card.backbone,
        "views": len(card.views),
    }


def _models(store: SiteStore, kind: ModelKind) -> list[dict[str, Any]]:
    cards = [read_model_card(read_json(path / CARD_FILE)) for path in store.models().values()]
    aliases = store.aliases().items()
    return [
        {
            kind: card.id,
            "site": card.site,
            "origin": card.origin,
            **_told_of(card),
            "aliases": " ".join(alias for alias, named in aliases if named == card.id),
        }
        for card in cards
        if card.kind == kind
    ]


def _told_of(card: ModelCard) -> dict[str, Any]:
    return {"answers": card.answers} if card.kind == "segmenter" else {"size": card.image_size}
