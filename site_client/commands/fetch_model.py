"""``echofed-site fetch-model``: a segmenter of the centre comes to this site."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from shared.console import emit
from site_client.commands.options import CONFIG_FILE, ConfigOption, JsonOption, SetOption, open_site


def fetch_model(
    alias: Annotated[
        str, typer.Argument(help="What the centre calls it, such as segmentation-masks; or its id.")
    ],
    config: ConfigOption = Path(CONFIG_FILE),
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch a segmenter, check signature and hash, and use it under its alias from now on."""
    from site_client.segmenters import fetch_segmenter

    site = open_site(config, overrides)
    before = site.store.aliased(alias)
    card = fetch_segmenter(
        site.store,
        site.settings.centre,
        alias,
        site=site.settings.site,
        now=datetime.now(UTC),
    )
    document = {
        "alias": alias,
        "segmenter": card.id,
        "before": before,
        "trained_at": card.site,
        "origin": card.origin,
        "answers": card.answers,
        "views": list(card.views),
        "sha256": card.weights_sha256,
    }
    emit(document, as_json=as_json)
