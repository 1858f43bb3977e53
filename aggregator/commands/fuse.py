"""``echofed-aggregator fuse``: retrain the fusion from the bank alone, without asking any site."""

from datetime import UTC, datetime
from pathlib import Path

from aggregator.commands.increment import register_candidate, report_tables
from aggregator.commands.options import (
    CONFIG_FILE,
    ConfigOption,
    JsonOption,
    SetOption,
    open_for_command,
)
from shared.console import emit, progress


def fuse(
    config: ConfigOption = Path(CONFIG_FILE),
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train from stored exports, score on held-out features, register the candidate."""
    from aggregator.centre import alone
    from aggregator.fuse import choose
    from aggregator.fuse import fuse as fuse_bank

    centre = open_for_command(config, overrides)
    with progress("fuse", None) as advance, alone(centre):
        row = fuse_bank(
            centre,
            choose(centre, ()),
            clock=lambda: datetime.now(UTC),
            note=lambda text: advance(1, text),
        )
    document = register_candidate(centre, {"fusion": row.id, "report": row.report})
    emit(document, as_json=as_json, tables=report_tables(document))
