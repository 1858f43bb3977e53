"""``echofed-aggregator audit``: does the record hold, who is at home where, what would change."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

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
from shared.console import emit, progress, table
from shared.echo.ontology import DEPTHS, Depth


def audit(
    what: Annotated[
        Literal["verify", "experts", "change", "order"],
        typer.Argument(
            help="verify: ledger and registry; experts: id scores and evidence; "
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
        tables = [
            *id_score_tables(document),
            *_evidence_tables(document["scorecard"]),
            *_calibration_tables(document["calibration"]),
            *_depth_tables(document["depths"], document["variant"]),
        ]
        emit(document, as_json=as_json, tables=tables)
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


def _evidence_tables(scorecard: Mapping[str, Any]) -> list[Table]:
    """How well every evidence tells foreign rows from home: the mean, then AUROC by expert."""
    if not scorecard:
        return []
    kinds = dict.fromkeys(kind for one in scorecard["average"].values() for kind in one)
    average = scorecard["average"]
    tables = [
        table(
            "home against foreign rows, mean over experts",
            ("evidence", *(f"{kind} {figure}" for kind in kinds for figure in ("AUROC", "FPR95"))),
            [
                (source, *_figures([by_kind.get(kind, {}) for kind in kinds], "auroc", "fpr95"))
                for source, by_kind in average.items()
            ],
        )
    ]
    experts = scorecard["experts"]
    for kind in kinds:
        rows = [
            (
                source,
                *_figures([one.get(source, {}).get(kind, {}) for one in experts.values()], "auroc"),
            )
            for source in average
        ]
        tables.append(table(f"AUROC of {kind} by expert", ("evidence", *experts), rows))
    if scorecard["refused"]:
        rows = list(scorecard["refused"].items())
        tables.append(table("experts without fitted evidence", ("expert", "code"), rows))
    return tables


def _figures(found: Sequence[Mapping[str, float]], *names: str) -> list[object]:
    """The named figures one after the other; a dash where there were no rows."""
    return [one.get(name, "-") for one in found for name in names]


def _calibration_tables(calibration: Mapping[str, Any]) -> list[Table]:
    return [
        table(
            f"calibration error of {variant} over held-out clips",
            ("dataset", "clips", "error", "expected of true ones", "excess"),
            [
                (name, one["num"], one["error"], one["expected"], one["excess"])
                for name, one in by_name.items()
            ],
        )
        for variant, by_name in calibration.items()
    ]


def _depth_tables(depths: Mapping[str, Any], variant: str) -> list[Table]:
    """Over all union views, how finely the fusion tells them; clips that count differ by depth."""
    if not depths:
        return []
    rows = [
        (name, *(value for depth in DEPTHS for value in _at_depth(by_depth, depth)))
        for name, by_depth in depths.items()
    ]
    columns = ("dataset", *(f"{depth} {what}" for depth in DEPTHS for what in ("clips", "F1")))
    return [table(f"macro-F1 of {variant} by depth, over all views of the union", columns, rows)]


def _at_depth(by_depth: Mapping[str, Any], depth: Depth) -> tuple[object, object]:
    one = by_depth.get(depth, {})
    return one.get("num_clips", 0), one.get("macro_f1", "-")
