"""``echofed-aggregator increment``: from announced datasets to a registered candidate fusion."""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from aggregator.centre import Centre
from aggregator.commands.options import (
    CONFIG_FILE,
    ConfigOption,
    JsonOption,
    SetOption,
    open_for_command,
)
from shared.console import emit, progress, table

log = logging.getLogger(__name__)
STEPS = ("start", "describe", "experts", "features", "fuse", "evaluate", "deliver")


def increment(
    config: ConfigOption = Path(CONFIG_FILE),
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask for what is missing, train a fusion, evaluate it at the sites, register the candidate."""
    from aggregator.operator import start_increment

    centre = open_for_command(config, overrides)
    began = time.monotonic()
    with progress("increment", len(STEPS)) as advance:
        reached = ""

        def watch(step: str, note: str) -> None:
            nonlocal reached
            advance(int(step != reached), f"{step} {note}".strip())
            if step != reached:
                log.info("step %s", step)
            reached = step

        outcome = start_increment(centre, config, overrides or (), watch)
    document = register_candidate(centre, outcome)
    document["seconds"] = round(time.monotonic() - began, 3)
    emit(document, as_json=as_json, tables=report_tables(document))


def register_candidate(centre: Centre, outcome: Mapping[str, Any]) -> dict[str, Any]:
    """Log the fusion to the model registry as candidate, unless it is there already."""
    from aggregator.promotion import register

    began = time.monotonic()
    version = register(centre, str(outcome["fusion"]))
    seconds = round(time.monotonic() - began, 3)
    step = {"attempt": 0, "step": "register", "seconds": seconds, "bytes_in": 0, "bytes_out": 0}
    steps = [*outcome.get("steps", ()), step]
    return {**outcome, "model_version": version, "alias": "candidate", "steps": steps}


def report_tables(document: Mapping[str, Any]) -> list[Table]:
    """Scores, id scores, what was absent or refused, and what each step cost."""
    report = document["report"]
    tables = [
        table(
            f"fusion {document['fusion']} ({report['variant']}), candidate as version "
            f"{document['model_version']}; held-out clips",
            ("dataset", "origin", "exports", "frames", "macro-F1", "balanced accuracy"),
            _scores(report),
        ),
        *id_score_tables(report),
    ]
    trouble = _trouble(document)
    if trouble:
        tables.append(table("what went missing", ("site", "what", "code", "message"), trouble))
    if document.get("steps"):
        tables.append(_cost(document["steps"]))
    return tables


def id_score_tables(report: Mapping[str, Any]) -> list[Table]:
    """How much at home each gated variant finds each expert in each dataset."""
    tables = []
    for variant, scores in report["id_scores"].items():
        experts = list(next(iter(scores.values()), {}))
        rows = [(name, *(one[expert] for expert in experts)) for name, one in scores.items()]
        tables.append(table(f"mean id score by {variant}", ("dataset", *experts), rows))
    return tables


def _scores(report: Mapping[str, Any]) -> list[tuple[object, ...]]:
    def kind(name: str) -> str:
        return next((k for k in ("fresh", "cached") if name in report[k]), "?")

    rows: list[tuple[object, ...]] = [
        (
            name,
            one["origin"],
            kind(name),
            one["num_frames"],
            one["clips"]["macro_f1"],
            one["clips"]["balanced_accuracy"],
        )
        for name, one in report["datasets"].items()
        if one["num_frames"]
    ]
    return rows + [(name, "-", "missing", 0, "-", "-") for name in report["missing"]]


def _trouble(document: Mapping[str, Any]) -> list[tuple[object, ...]]:
    absent = [(site, "site", code, "") for site, code in document.get("absent", {}).items()]
    refused = [
        (
            one["site"],
            " ".join(str(one[key]) for key in ("kind", "dataset", "expert") if key in one),
            one["code"],
            one["message"],
        )
        for one in document.get("refused", ())
    ]
    return [*absent, *refused]


def _cost(steps: Sequence[Mapping[str, Any]]) -> Table:
    rows = [
        (
            step["attempt"],
            step["step"],
            float(step["seconds"]),
            float(step.get("cpu_seconds", 0.0)),
            float(sum(step.get("site_cpu_seconds", {}).values())),
            float(sum(step.get("site_start_cpu_seconds", {}).values())),
            step["bytes_in"],
            step["bytes_out"],
        )
        for step in steps
    ]
    columns = (
        "attempt",
        "step",
        "seconds",
        "CPU s here",
        "CPU s at sites",
        "their start",
        "bytes in",
        "bytes out",
    )
    return table("what each step cost", columns, rows)
