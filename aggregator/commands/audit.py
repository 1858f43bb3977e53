"""``echofed-aggregator audit``: does the record hold, and which expert is at home where."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from aggregator.commands.increment import id_score_tables
from aggregator.commands.options import (
    CONFIG_FILE,
    ConfigOption,
    JsonOption,
    SetOption,
    open_for_command,
)
from shared.console import emit


def audit(
    what: Annotated[
        Literal["verify", "experts"],
        typer.Argument(help="verify: ledger and registry; experts: id scores, expert x dataset."),
    ],
    fusion: Annotated[str, typer.Option(help="Id; the newest by default.")] = "",
    config: ConfigOption = Path(CONFIG_FILE),
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check the ledger against itself and the model registry, or show the experts' id scores."""
    from aggregator.audit import expert_scores, verify
    from aggregator.promotion import registry_of

    centre = open_for_command(config, overrides)
    if what == "verify":
        emit(verify(centre, registry_of(centre)), as_json=as_json)
        return
    document = expert_scores(centre, fusion)
    emit(document, as_json=as_json, tables=id_score_tables(document))
