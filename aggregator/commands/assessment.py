"""The assessment of a change and the spread over orders as tables."""

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from rich.table import Table

from shared.console import table

_COLUMNS = ("figure", "clips", "before", "after", "change (95 %)", "least", "verdict")


def assessment_tables(document: Mapping[str, Any]) -> list[Table]:
    """What a promotion would change, dataset by dataset, and what the plan says of it."""
    asked = [one for one in document["findings"] if one["verdict"] != "not asked"]
    tables = [
        table(f"{dataset}, figures of the {source}", _COLUMNS, [_row(one) for one in group])
        for (dataset, source), group in groupby(asked, lambda one: (one["dataset"], one["source"]))
    ]
    facts = [
        ("candidate", document["candidate"]),
        ("in place of", document["serving"] or "nothing"),
        ("plan", document["plan_hash"]),
        ("approvers", ", ".join(document["plan"]["approvers"])),
        ("verdict", "refused" if document["refused"] else "may be promoted"),
        *(("refused for", reason) for reason in document["refused"]),
    ]
    if document["unreported"]:
        facts.append(("without figures of their site", ", ".join(document["unreported"])))
    return [*tables, table("change control", ("what", "value"), facts)]


def order_table(document: Mapping[str, Any]) -> Table:
    """How far fusions of the same datasets in other orders lie apart."""
    rows = [
        ("macro-F1 by order", ", ".join(f"{value:.4f}" for value in document["macro_f1"])),
        ("highest minus lowest", f"{document['spread']:.4f}"),
        ("largest change of a probability", f"{document['probability_change']:.1e}"),
    ]
    title = f"{document['variant']} fitted on the same datasets in random orders"
    return table(title, ("what", "value"), rows)


def _row(one: Mapping[str, Any]) -> tuple[object, ...]:
    return (
        one["figure"] or "-",
        one["num_clips"],
        _told(one["before"]),
        _told(one["after"]),
        _change(one),
        _told(one["required"]),
        one["verdict"],
    )


def _told(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:.3f}"


def _change(one: Mapping[str, Any]) -> str:
    if one["before"] is None or one["after"] is None:
        return "-"
    change = f"{one['after'] - one['before']:+.3f}"
    return change if one["low"] is None else f"{change} ({one['low']:+.3f} {one['high']:+.3f})"
