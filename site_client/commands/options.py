"""What every subcommand takes, and the site it opens with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from shared.errors import Code, EchoFedError
from shared.log import set_up_log
from shared.settings import load_settings
from site_client.archive.tls import TlsFiles
from site_client.settings import ReceiveSettings, SiteSettings
from site_client.store import SiteStore

CONFIG_FILE = "site.yaml"
POLICY_FILE = "policy.yaml"

ConfigOption = Annotated[Path, typer.Option("--config", help="Settings file of the site.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="a.b=c", help="Override a setting, a.b=@FILE a part; repeatable."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write one JSON document to stdout.")]


@dataclass(frozen=True, slots=True)
class Site:
    """An opened site: its resolved settings and its folder."""

    settings: SiteSettings
    store: SiteStore

    @property
    def policy_path(self) -> Path:
        return self.store.root / POLICY_FILE


def open_site(config: Path, overrides: Sequence[str] | None) -> Site:
    """Read the settings, set up the log and look at the site's folder.

    Raises:
        EchoFedError: CONFIG_MISSING, CONFIG_UNKNOWN_KEY or CONFIG_INVALID.
    """
    settings = load_settings(SiteSettings, config, overrides or ())
    set_up_log(site=settings.site)
    return Site(settings, SiteStore(config.resolve().parent / settings.folder))


def receiver_tls(settings: ReceiveSettings, config: Path) -> TlsFiles | None:
    """The files of the receiver's TLS, which are named relative to the settings file."""
    if settings.certificate is None or settings.key is None:
        return None
    folder = config.resolve().parent
    senders = folder / settings.senders if settings.senders else None
    return TlsFiles(folder / settings.certificate, folder / settings.key, senders)


def choose_datasets(store: SiteStore, names: Sequence[str]) -> tuple[str, ...]:
    """The datasets that were named, or the site's only one.

    Raises:
        EchoFedError: DATASET_UNKNOWN where none is named and the site has none or several.
    """
    if names:
        return tuple(dict.fromkeys(names))
    known = store.datasets()
    if len(known) != 1:
        raise EchoFedError(
            Code.DATASET_UNKNOWN,
            f"the site has {len(known)} datasets and none is named",
            f"name one with --dataset: {', '.join(known)}" if known else "ingest a folder first",
        )
    return known
