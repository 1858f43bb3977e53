"""``echofed-site fetch-model``: a model of the centre comes to this site."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from shared.console import emit
from site_client.commands.options import CONFIG_FILE, ConfigOption, JsonOption, SetOption, open_site


def fetch_model(
    alias: Annotated[
        str,
        typer.Argument(
            help="What the centre calls it, such as segmentation-masks or synthesis; or its id."
        ),
    ],
    config: ConfigOption = Path(CONFIG_FILE),
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch a model, check signature and hash, and use it under its alias from now on."""
    from site_client.models import fetch_from_centre

    site = open_site(config, overrides)
    before = site.store.aliased(alias)
    card = fetch_from_centre(
        site.store,
        site.settings.centre,
        alias,
        site=site.settings.site,
        now=datetime.now(UTC),
    )
    document = {
        "alias": alias,
        card.kind: card.id,
        "before": before,
        "trained_at": card.site,
        "origin": card.origin,
        **({"answers": card.answers} if card.kind == "segmenter" else {}),
        "views": list(card.views),
        "sha256": card.weights_sha256,
    }
    emit(document, as_json=as_json)
