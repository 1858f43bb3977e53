"""``echofed-site fetch``: studies of a DICOMweb archive into an inbox, for ingest."""

import logging
import os
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from shared.console import emit, progress
from site_client.commands.options import CONFIG_FILE, ConfigOption, JsonOption, SetOption, open_site

log = logging.getLogger(__name__)


def fetch(
    url: Annotated[str, typer.Argument(help="Root of the archive's DICOMweb services.")],
    out: Annotated[Path, typer.Option(help="The inbox, outside the site's folder.")],
    study_date: Annotated[str, typer.Option(metavar="FROM-TO", help="YYYYMMDD-YYYYMMDD.")] = "",
    modality: Annotated[str, typer.Option(help="Modality of the series to bring.")] = "US",
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only so many studies, for a first look.")
    ] = None,
    per_second: Annotated[float, typer.Option(min=0.01, help="Requests a second, at most.")] = 10.0,
    credentials: Annotated[
        Path | None,
        typer.Option(
            help="File (mode 600) of ECHOFED_ARCHIVE_USER=, ECHOFED_ARCHIVE_PASSWORD= or "
            "ECHOFED_ARCHIVE_TOKEN= lines; without it they are taken from the environment."
        ),
    ] = None,
    ca: Annotated[
        Path | None, typer.Option(help="Authorities to believe (PEM), for a private one.")
    ] = None,
    config: ConfigOption = Path(CONFIG_FILE),
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring a PACS's studies into a private folder, as they are; run again, it goes on."""
    from site_client.archive.access import open_client, read_credentials
    from site_client.archive.dicomweb import DicomWeb
    from site_client.archive.fetch import expect_dates
    from site_client.archive.fetch import fetch as bring
    from site_client.archive.inbox import NOTICE, open_inbox

    site = open_site(config, overrides)
    dates = expect_dates(study_date)
    client = open_client(url, read_credentials(credentials, os.environ), authority=ca)
    inbox = open_inbox(out, site.store.key(), site_root=site.store.root)
    with client:
        archive = DicomWeb(client, per_second=per_second)
        studies = list(islice(archive.studies(modality=modality, dates=dates), limit))
        with progress("fetch studies", len(studies)) as advance:
            report = bring(archive, inbox, studies, modality=modality, advance=advance)
    log.warning(NOTICE)
    emit(asdict(report), as_json=as_json)
