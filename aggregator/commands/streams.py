"""``echofed-aggregator streams``: make the streams that the benchmark reads."""

from pathlib import Path
from typing import Annotated

import typer

from shared.console import emit, progress, table

_OUT = Path("runs/streams")


def streams(
    out: Annotated[Path, typer.Option(help="Folder of all streams.")] = _OUT,
    plan: Annotated[
        Path | None, typer.Option(help="YAML of another plan than the built-in one.")
    ] = None,
    stream: Annotated[
        list[str] | None, typer.Option(help="Only these streams; repeatable.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="a=b", help="Override the plan.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON document.")] = False,
) -> None:
    """Let virtual sites train and export by their own commands; a stopped run goes on."""
    from aggregator.streams.make import make_stream
    from aggregator.streams.plan import PLAN_FILE, StreamsPlan, choose_streams
    from shared.settings import load_settings

    asked = load_settings(StreamsPlan, plan or PLAN_FILE, overrides or ())
    chosen = choose_streams(asked, stream or ())
    rows = []
    with progress("streams", len(chosen) * len(asked.seeds)) as advance:
        for seed in asked.seeds:
            for one in chosen:

                def note(step: str, name: str = one.name, seed: int = seed) -> None:
                    advance(0, f"{name}, seed {seed}: {step}")

                record = make_stream(one, seed, out, note).record
                seconds = sum(step.seconds for step in record.steps)
                rows.append((one.name, one.origin, seed, len(record.arrivals), seconds))
                advance(1, "")
    columns = ("stream", "origin", "seed", "datasets", "seconds")
    document = {"streams": [dict(zip(columns, row, strict=True)) for row in rows]}
    emit(document, as_json=as_json, tables=[table("streams", columns, rows)])
