"""The benchmark's folder: figures as CSV and JSON, tables as Markdown, pictures as PNG."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aggregator.benchmark import DEFAULT
from aggregator.benchmark.costs import Costs, cost_goals
from aggregator.benchmark.intervals import final_interval
from aggregator.benchmark.measure import MeasuredStream
from aggregator.benchmark.plots import (
    plot_cost,
    plot_id_scores,
    plot_increments,
    plot_risk_coverage,
    to_png,
)
from aggregator.benchmark.result import (
    MethodResult,
    Row,
    recall_table,
    score_table,
    summary_table,
)
from aggregator.benchmark.run import JOINT
from aggregator.benchmark.summary import ORACLE, do_share_patients, increments, pooled_risk
from aggregator.benchmark.tables import Sheet, goal_sheet, markdown, sheets_of
from aggregator.fusion.paired import recall_of
from shared.echo.schema import to_document
from shared.files import write_bytes, write_json

NAIVE = "naive head"


@dataclass(frozen=True, slots=True)
class Report:
    """What is shown of a benchmark: one document, and the same as tables."""

    document: dict[str, Any]
    sheets: tuple[Sheet, ...]


def write_report(out: Path, measured: Sequence[MeasuredStream], costs: Costs) -> Report:
    """Write everything into a folder; files of other names in it stay.

    Args:
        out: is made if it is not there.
        measured: one of each stream.
        costs: may be empty.
    """
    results = [result for one in measured for result in one.results]
    for name, rows in (
        ("results.csv", score_table(results)),
        ("summary.csv", summary_table(results)),
        ("recalls.csv", recall_table(results)),
        ("intervals.csv", [row for one in measured for row in _intervals(one)]),
    ):
        write_bytes(out / name, _csv(rows))
    document: dict[str, Any] = {"streams": [to_document(one.summary) for one in measured]}
    parts: list[str] = []
    shown: list[Sheet] = []
    for one in measured:
        sheets, pictures = sheets_of(one.summary), _pictures(one)
        heading = f"Stream {one.summary.stream} ({one.summary.origin})"
        for name, picture in pictures.items():
            write_bytes(out / name, picture)
        parts.append(markdown(heading, sheets, tuple(pictures)))
        shown += sheets
    if costs:
        goals = cost_goals(costs)
        sheet = goal_sheet("Cost of inference as experts are added", goals, "noise")
        write_bytes(out / "cost.png", _picture_costs(costs))
        parts.append(markdown("Cost", [sheet], ["cost.png"]))
        shown.append(sheet)
        document["costs"] = {"frames_per_cpu_s": costs, "goals": [to_document(g) for g in goals]}
    write_bytes(out / "table.md", "\n".join(parts).encode())
    write_json(out / "results.json", document)
    return Report(document, tuple(shown))


def _intervals(measured: MeasuredStream) -> Iterator[Row]:
    """A line per method, dataset and figure: the mean over seeds with its patient bootstrap."""
    origin = measured.summary.origin
    for method in measured.summary.methods:
        found = [result.of(method.method) for result in measured.results]
        for clips in found[0].final.finals:
            there = set(clips.labels).intersection(
                *(_true_labels(one, clips.dataset) for one in found)
            )
            recalls = [recall_of(label) for label in clips.labels if label in there]
            for figure in ("macro_f1", "accuracy", *recalls):
                interval = final_interval(
                    found,
                    figure,
                    dataset=clips.dataset,
                    share_patients=do_share_patients(origin),
                )
                yield {
                    "stream": measured.summary.stream,
                    "origin": origin,
                    "method": method.method,
                    "dataset": clips.dataset,
                    "figure": figure,
                    "value": interval.value,
                    "low": interval.low,
                    "high": interval.high,
                }


def _true_labels(method: MethodResult, dataset: str) -> set[str]:
    """Labels that occur among a dataset's test clips."""
    return {
        label
        for score in method.final.scores
        if score.dataset == dataset
        for label in score.recalls
    }


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
            title=f"{title}: id scalar of the fusion",
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
