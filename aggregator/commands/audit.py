"""``echofed-aggregator audit``: does the record hold, and which expert is at home where."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from aggregator.commands.increment import id_score_tables
from aggregator.commands.options import (
    CONFIG_FILE,
    ConfigOption,
    JsonOption,
    SetOption,
    open_for_command,
)
from shared.console import emit, table


def audit(
    what: Annotated[
        Literal["verify", "experts"],
        typer.Argument(help="verify: ledger and registry; experts: id scores and evidence."),
    ],
    fusion: Annotated[str, typer.Option(help="Id; the newest by default.")] = "",
    config: ConfigOption = Path(CONFIG_FILE),
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check the ledger against itself and the model registry, or how well experts know home."""
    from aggregator.audit import expert_scores, verify
    from aggregator.promotion import registry_of

    centre = open_for_command(config, overrides)
    if what == "verify":
        emit(verify(centre, registry_of(centre)), as_json=as_json)
        return
    document = expert_scores(centre, fusion)
    tables = [
        *id_score_tables(document),
        *_evidence_tables(document["scorecard"]),
        *_calibration_tables(document["calibration"]),
    ]
    emit(document, as_json=as_json, tables=tables)


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
