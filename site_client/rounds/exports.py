"""Exports that were made once, kept at the site: a killed increment goes on where it stood."""

import logging
from collections.abc import Callable, Collection
from pathlib import Path

from shared.echo.expert import ExpertCard
from shared.echo.features import FeatureExport, read_export
from shared.errors import EchoFedError
from shared.files import write_bytes
from site_client.store import SiteStore

log = logging.getLogger(__name__)
_HASH_CHARACTERS = 32  # of each SHA-256 in a file name: 128 bits


def kept_export(
    store: SiteStore,
    dataset_hash: str,
    card: ExpertCard,
    variant: str,
    make: Callable[[], FeatureExport],
) -> FeatureExport:
    """The export of a dataset's content by an expert, made now or found from an earlier try.

    Args:
        store: the site's; exports lie in its ``exports`` folder and never leave it unchecked.
        dataset_hash: content of the dataset.
        card: the expert.
        variant: what else the export depends on, such as passes and policy revision.
        make: makes it.
    """
    path = _path(store, dataset_hash, card, variant)
    if path.is_file():
        try:
            return read_export(path.read_bytes())
        except EchoFedError as error:
            log.warning("a kept export is made again: %s", error)
    export = make()
    keep_export(store, dataset_hash, card, variant, export)
    return export


def keep_export(
    store: SiteStore, dataset_hash: str, card: ExpertCard, variant: str, export: FeatureExport
) -> None:
    """Keep an export for when it is asked for; see ``kept_export``."""
    write_bytes(_path(store, dataset_hash, card, variant), export.to_bytes())


def prune_exports(
    store: SiteStore, contents: Collection[str], *, experts: Collection[str] = ()
) -> int:
    """Drop the exports of contents that the site no longer has; return how many went.

    Args:
        store: the site's.
        contents: hashes of the datasets' contents that stay.
        experts: hashes of the weights of experts whose exports go as well.
    """
    stale = stale_exports(store, contents, experts=experts)
    for path in stale:
        path.unlink()
    return len(stale)


def stale_exports(
    store: SiteStore, contents: Collection[str], *, experts: Collection[str] = ()
) -> list[Path]:
    """The exports that ``prune_exports`` drops."""
    current = {content[:_HASH_CHARACTERS] for content in contents}
    gone = {weights[:_HASH_CHARACTERS] for weights in experts}
    stale = []
    for path in _folder(store).glob("*.safetensors"):
        content, weights, _ = path.name.split("-", 2)
        if content not in current or weights in gone:
            stale.append(path)
    return stale


def _path(store: SiteStore, dataset_hash: str, card: ExpertCard, variant: str) -> Path:
    name = f"{dataset_hash[:_HASH_CHARACTERS]}-{card.weights_sha256[:_HASH_CHARACTERS]}-{variant}"
    return _folder(store) / f"{name}.safetensors"


def _folder(store: SiteStore) -> Path:
    return store.root / "exports"
