"""``echofed-aggregator withdraw``: a dataset, and all that was made of it, goes."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from aggregator.commands.options import (
    CONFIG_FILE,
    ActorOption,
    ConfigOption,
    JsonOption,
    SetOption,
    actor_or_account,
    open_for_command,
)
from shared.console import emit, progress, table


def withdraw(
    dataset: Annotated[str, typer.Argument(metavar="SITE/DATASET", help="What is withdrawn.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would go and change nothing.")
    ] = False,
    keep_descendants: Annotated[
        bool,
        typer.Option(
            "--keep-descendants",
            help="Keep experts that only started from one that goes; the certificate says so.",
        ),
    ] = False,
    actor: ActorOption = "",
    config: ConfigOption = Path(CONFIG_FILE),
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Purge a dataset with its experts, exports and fusions, fuse again, and certify it."""
    from aggregator.impact import begun_impact, find_impact
    from aggregator.withdrawal import withdraw as take_back

    centre = open_for_command(config, overrides)
    if dry_run:
        found = begun_impact(centre, dataset) or find_impact(
            centre, dataset, keep_descendants=keep_descendants
        )
        impact = found.document()
        emit({"impact": impact}, as_json=as_json, tables=[_impact(impact)])
        return
    with progress("withdraw", None) as advance:
        document = take_back(
            centre,
            dataset,
            actor=actor_or_account(actor),
            clock=lambda: datetime.now(UTC),
            keep_descendants=keep_descendants,
            note=lambda text: advance(1, text),
        )
    emit(document, as_json=as_json, tables=_tables(document))


def _impact(impact: Mapping[str, Any]) -> Table:
    rows: list[Sequence[object]] = [
        ("expert", one["expert"], "descendant" if one["is_descendant"] else "trained on it")
        for one in impact["experts"]
    ]
    rows += [("export", one["export"], one["dataset"]) for one in impact["exports"]]
    rows += [
        ("fusion", one["fusion"], "serves" if one["fusion"] == impact["serving"] else "")
        for one in impact["fusions"]
    ]
    rows.append(("figures of sites", impact["evaluations"], ""))
    rows += [("stays", one, "descendant, not exact") for one in impact["kept"]]
    rows += [("stays", one, "unknown parent, not exact") for one in impact["untraced"]]
    return table(f"what goes with {impact['dataset']}", ("what", "which", "why"), rows)


def _tables(document: Mapping[str, Any]) -> list[Table]:
    before, after = document["before"], document["after"]
    names = list(dict.fromkeys((*before["macro_f1"], *after["macro_f1"])))
    certificate = document["certificate"]
    exact = "exact" if certificate["exact"] else "not exact"
    facts = [
        (f"ledger entry {certificate['position']}", certificate["leaf"]),
        (exact, "; ".join(certificate["not_exact_because"]) or "as if it had never been there"),
        ("new fusion", after["fusion"] or document["why_none"]),
        ("serving", document["serving"] or "nothing"),
    ]
    return [
        _impact(document["impact"]),
        table(
            "macro-F1 of held-out clips",
            ("dataset", f"before ({before['fusion'] or '-'})", f"after ({after['fusion'] or '-'})"),
            [(n, before["macro_f1"].get(n, "-"), after["macro_f1"].get(n, "-")) for n in names],
        ),
        table("certificate", ("what", "value"), facts),
        table("what remains to be done", ("what",), [(one,) for one in document["afterwards"]]),
    ]
