"""``echofed-aggregator register``: what a site trained becomes a model that sites may fetch."""

from pathlib import Path
from typing import Annotated

import typer

from aggregator.commands.options import (
    CONFIG_FILE,
    ActorOption,
    ConfigOption,
    JsonOption,
    SetOption,
    actor_or_account,
    open_for_command,
)
from shared.console import emit


def register(
    card: Annotated[
        Path,
        typer.Argument(
            help="A segmenter's or synthesizer's card.json with its weights beside it, or folder."
        ),
    ],
    alias: Annotated[
        str,
        typer.Option(
            help="What it serves as; segmentation-masks, segmentation-contours or synthesis "
            "by default."
        ),
    ] = "",
    reason: Annotated[
        str, typer.Option(help="Why; stands in the ledger. Needed where another one serves.")
    ] = "",
    actor: ActorOption = "",
    config: ConfigOption = Path(CONFIG_FILE),
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a model, keep it and let its alias stand for it; the one before is kept."""
    from aggregator.admission import register_model

    centre = open_for_command(config, overrides)
    done = register_model(centre, card, alias=alias, actor=actor_or_account(actor), reason=reason)
    document = {
        done.card.kind: done.card.id,
        "alias": done.alias,
        "before": done.before or None,
        "registered": done.is_new,
        "moved": done.is_moved,
        "site": done.card.site,
        "origin": done.card.origin,
        **({"answers": done.card.answers} if done.card.kind == "segmenter" else {}),
        "structures": list(done.card.structures),
        "views": list(done.card.views),
        "metrics": done.card.metrics,
        "sha256": done.card.weights_sha256,
    }
    emit(document, as_json=as_json)
