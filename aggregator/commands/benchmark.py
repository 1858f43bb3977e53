"""``echofed-aggregator benchmark``: every way to learn from the same exports, side by side."""

from pathlib import Path
from typing import Annotated

import typer

from aggregator.commands.options import JsonOption
from shared.console import emit, progress, table
from shared.log import set_up_log

_STREAMS = Path("runs/streams")
_SMALL = Path("runs/streams-small")  # apart: the full stream of the same name would be refused
_OUT = Path("runs/benchmark")
_COSTS = Path("tests/bench/cost_experts.csv")


def benchmark(
    streams: Annotated[
        Path | None,
        typer.Option(help="Folder of stored streams; runs/streams, or a small one that is made."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for tables and pictures.")] = _OUT,
    methods: Annotated[
        list[str] | None, typer.Option(help="Only these methods; repeatable.")
    ] = None,
    costs: Annotated[
        Path, typer.Option(help="Measured speeds by number of experts, if there.")
    ] = _COSTS,
    as_json: JsonOption = False,
) -> None:
    """Run every method at every stage of stored streams; needs no settings and no centre."""
    from aggregator.benchmark import METHODS
    from aggregator.benchmark.costs import read_costs
    from aggregator.benchmark.folders import find_streams
    from aggregator.benchmark.measure import measure_stream, num_steps
    from aggregator.benchmark.report import write_report

    set_up_log(site="centre")
    asked = tuple(methods or METHODS.names())
    for method in asked:
        METHODS[method]  # refuses unknown names before anything runs
    found = find_streams(streams or _stored_or_made())
    with progress("benchmark", num_steps(found.values(), asked)) as advance:
        measured = [measure_stream(seeds, asked, advance) for seeds in found.values()]
        report = write_report(out, measured, read_costs(costs))
    tables = [table(sheet.title, sheet.columns, sheet.rows) for sheet in report.sheets]
    emit(report.document, as_json=as_json, tables=tables)


def _stored_or_made() -> Path:
    """The usual folder of streams, or that of a small one, which is made if it is not there."""
    from aggregator.streams.make import make_small_stream

    if any(_STREAMS.glob("*/seed-*/stream.json")):
        return _STREAMS
    with progress("a small stream", None) as advance:
        make_small_stream(_SMALL, lambda step: advance(1, step))
    return _SMALL
