"""``echofed-aggregator audit``: does the record hold, who is at home where, what would change."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from aggregator.centre import Centre
from aggregator.commands.assessment import assessment_tables, order_table
from aggregator.commands.increment import id_score_tables
from aggregator.commands.options import (
    CONFIG_FILE,
    ConfigOption,
    JsonOption,
    SetOption,
    open_for_command,
)
from shared.console import emit, progress


def audit(
    what: Annotated[
        Literal["verify", "experts", "change", "order"],
        typer.Argument(
            help="verify: ledger and registry; experts: id scores, expert x dataset; "
            "change: what a promotion would change, by the change plan; "
            "order: the same datasets fused in random orders."
        ),
    ],
    fusion: Annotated[str, typer.Option(help="Id; the newest by default.")] = "",
    config: ConfigOption = Path(CONFIG_FILE),
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check the ledger against itself and the model registry, or show what a fusion is worth."""
    from aggregator.audit import expert_scores, newest_fusion, verify
    from aggregator.change_control import assess
    from aggregator.promotion import registry_of

    centre = open_for_command(config, overrides)
    if what == "verify":
        emit(verify(centre, registry_of(centre)), as_json=as_json)
        return
    if what == "experts":
        document = expert_scores(centre, fusion)
        emit(document, as_json=as_json, tables=id_score_tables(document))
    elif what == "change":
        document = assess(centre, newest_fusion(centre, fusion).id).document()
        emit(document, as_json=as_json, tables=assessment_tables(document))
    else:
        document = _orders(centre, fusion)
        emit(document, as_json=as_json, tables=[order_table(document)])


def _orders(centre: Centre, fusion: str) -> dict[str, Any]:
    """The fusion's variant, fitted again on what it was made of."""
    from aggregator.audit import newest_fusion
    from aggregator.fusion.order import NUM_ORDERS, measure_order_spread
    from shared.echo.expert import load_fusion

    row = newest_fusion(centre, fusion)
    card, _ = load_fusion(centre.fusion_folder(row.id))
    joined = centre.bank.join([block.expert for block in card.blocks], row.datasets)
    with progress("orders", NUM_ORDERS) as advance:
        spread = measure_order_spread(
            joined, centre.settings.fusion, card.variant, advance=lambda: advance(1, "")
        )
    return {"fusion": row.id, **asdict(spread)}
