"""``echofed-aggregator average``: one segmenter of all sites' masks, by federated averaging."""

import time
from collections.abc import Mapping
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


def average(
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of the whole run.")],
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SITE/DATASET",
            help="Dataset to learn from; repeatable. Default: all that the sites' policies allow.",
        ),
    ] = None,
    alias: Annotated[
        str, typer.Option(help="What it serves as; averaged-masks or -contours by default.")
    ] = "",
    actor: ActorOption = "",
    config: ConfigOption = Path(CONFIG_FILE),
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a segmenter at the sites by Flower's FedAvg and register it; a cut-off run goes on."""
    from aggregator.admission import register_model
    from aggregator.operator import start_averaging
    from shared.models import SEGMENTERS

    centre = open_for_command(config, overrides)
    answers = SEGMENTERS[centre.settings.segmenter.network].answers
    began = time.monotonic()
    with progress("average", rounds) as advance:
        reached = 0

        def watch(done: int) -> None:
            nonlocal reached
            advance(done - reached, f"round {done}")
            reached = done

        outcome = start_averaging(
            centre,
            config,
            overrides or (),
            datasets=sorted(set(dataset or ())),
            num_rounds=rounds,
            watch=watch,
        )
    done = register_model(
        centre,
        Path(outcome["folder"]),
        alias=alias or f"averaged-{answers}",
        actor=actor_or_account(actor),
        reason=f"{outcome['run']}: {rounds} rounds over {', '.join(outcome['sites'])}",
    )
    document = {**outcome, "alias": done.alias, "before": done.before or None}
    document["seconds"] = round(time.monotonic() - began, 3)
    emit(document, as_json=as_json, tables=report_tables(document))


def report_tables(document: Mapping[str, Any]) -> list[Table]:
    """How good the average is, how it got there, and what went missing."""
    metrics, shown = document["metrics"], {"rounds", "train_frames", "seconds"}
    title = f"segmenter {document['segmenter']} as {document['alias']}; validation frames"
    figures = [(name, value) for name, value in metrics.items() if name not in shown]
    rounds = [
        (
            number,
            site,
            share["num_frames"],
            _main(share["came"]),
            _main(share["learnt"]),
            one["site_seconds"].get(site, 0.0),
        )
        for number, one in enumerate(document["rounds"], 1)
        for site, share in one["shares"].items()
    ]
    columns = ("round", "site", "frames", "average before", "learnt there", "seconds")
    tables = [table(title, ("figure", "value"), figures), table("rounds", columns, rounds)]
    trouble = [(site, "site", code) for site, code in document["absent"].items()]
    trouble += [(one["site"], one["kind"], one["message"]) for one in document["refused"]]
    if trouble:
        tables.append(table("what went missing", ("site", "what", "why"), trouble))
    return tables


def _main(figures: Mapping[str, float]) -> float:
    """The figure that a network is judged by."""
    return next(figures[name] for name in ("val_dice", "val_landmark_error_mm") if name in figures)
