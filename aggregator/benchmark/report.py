"""The benchmark's folder: figures as CSV and JSON, tables as Markdown, pictures as PNG."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aggregator.benchmark import DEFAULT
from aggregator.benchmark.costs import Costs
from aggregator.benchmark.measure import MeasuredStream
from aggregator.benchmark.plots import (
    plot_cost,
    plot_id_scores,
    plot_increments,
    plot_risk_coverage,
    to_png,
)
from aggregator.benchmark.result import (
    Row,
    recall_table,
    score_table,
    summary_table,
)
from aggregator.benchmark.run import JOINT
from aggregator.benchmark.summary import ORACLE, increments, pooled_risk
from aggregator.benchmark.tables import markdown
from shared.echo.schema import to_document
from shared.files import write_bytes, write_json

NAIVE = "naive head"


def write_report(out: Path, measured: Sequence[MeasuredStream], costs: Costs) -> dict[str, Any]:
    """Write everything into a folder and return the document.

    Args:
        out: is made if it is not there; files of other names in it stay.
        measured: one of each stream.
        costs: may be empty.
    """
    results = [result for one in measured for result in one.results]
    for name, rows in (
        ("results.csv", score_table(results)),
        ("summary.csv", summary_table(results)),
        ("recalls.csv", recall_table(results)),
    ):
        write_bytes(out / name, _csv(rows))
    parts = []
    for one in measured:
        pictures = _pictures(one)
        for name, picture in pictures.items():
            write_bytes(out / name, picture)
        parts.append(markdown(one.summary, tuple(pictures)))
    if costs:
        write_bytes(out / "cost.png", _picture_costs(costs))
        parts.append("### Cost\n\n![cost](cost.png)\n")
    write_bytes(out / "table.md", "\n".join(parts).encode())
    document = {"streams": [to_document(one.summary) for one in measured]}
    write_json(out / "results.json", document)
    return document


def _csv(rows: Sequence[Row]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _pictures(measured: MeasuredStream) -> dict[str, bytes]:
    """PNGs by file name."""
    summary, results = measured.summary, measured.results
    title = f"{summary.stream} ({summary.origin})"
    lines = {one.method: increments(results, one.method) for one in summary.methods}
    wanted = (DEFAULT, summary.paper, ORACLE, JOINT, NAIVE)
    named = [method for method in wanted if method in lines]
    found = {
        "increments": plot_increments(
            {method: list(line_T) for method, line_T in lines.items()},
            named=named,
            title=f"{title}: every dataset so far, after each has come",
            what="clip macro-F1, mean over datasets",
        ),
    }
    if asked := [method for method in named if method in (DEFAULT, summary.paper)]:
        found["risk-coverage"] = plot_risk_coverage(
            {method: pooled_risk(results, method) for method in asked},
            title=f"{title}: accuracy on the clips that are answered",
        )
    if measured.outsides:
        kinds = sorted({kind for one in measured.outsides for kind in one.foreign})
        found["id-scores"] = plot_id_scores(
            np.concatenate([one.home_N for one in measured.outsides]),
            {
                kind: np.concatenate(
                    [one.foreign[kind] for one in measured.outsides if kind in one.foreign]
                )
                for kind in kinds
            },
            title=f"{title}: id scalar of {DEFAULT}",
        )
    return {f"{summary.stream}-{what}.png": to_png(figure) for what, figure in found.items()}


def _picture_costs(costs: Costs) -> bytes:
    """Kinds that cost the same share a line."""
    numbers = sorted({number for speeds in costs.values() for number in speeds})
    alike: dict[tuple[float, ...], list[str]] = {}
    for kind, speeds in costs.items():
        line = tuple(speeds.get(number, float("nan")) for number in numbers)
        alike.setdefault(line, []).append(kind)
    lines = {",\n".join(kinds): line for line, kinds in alike.items()}
    return to_png(plot_cost(numbers, lines, title="Inference through every expert, one CPU thread"))
