"""What every command shares: one document on stdout, progress on stderr, numbered exits."""

import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from shared.errors import Code, EchoFedError

log = logging.getLogger(__name__)
Advance = Callable[[int, str], None]
"""Advance a progress bar by so many units, with a short note."""


def emit(document: Mapping[str, Any], *, as_json: bool, tables: Sequence[Table] = ()) -> None:
    """Write one JSON document to stdout, or the tables (or plain lines) for a person."""
    if as_json:
        sys.stdout.write(json.dumps(document, indent=1) + "\n")
        return
    console = Console(width=None if sys.stdout.isatty() else 110)
    for table in tables:
        console.print(table)
    if not tables:
        for key, value in document.items():
            console.print(f"[bold]{key}[/bold]: {value}", highlight=False)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """A plain table; numbers keep three decimals and stand to the right."""
    built = Table(title=title, title_justify="left")
    for place, name in enumerate(columns):
        is_number = bool(rows) and isinstance(rows[0][place], int | float)
        built.add_column(name, justify="right" if is_number else "left")
    for row in rows:
        built.add_row(*(f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row))
    return built


@contextmanager
def progress(label: str, total: int | None) -> Iterator[Advance]:
    """A bar with count, elapsed time and ETA on stderr; silent where stderr is no terminal."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )
    with bar:
        task = bar.add_task(label, total=total, note="")

        def advance(units: int, note: str = "") -> None:
            bar.update(task, advance=units, note=note)

        yield advance


def command_line(
    name: str, help_text: str, commands: Mapping[str, Callable[..., None]]
) -> typer.Typer:
    """A command with its subcommands; errors are left to ``run_main``."""
    app = typer.Typer(
        name=name,
        help=help_text,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for command, function in commands.items():
        app.command(command)(function)
    return app


def run_main(app: Callable[[], None]) -> None:
    """Run a command line; an EchoFedError ends in its code, anything else in a traceback."""
    # Threads that spin at barriers halve the speed of a machine on which anything else runs; set
    # before torch is imported, and inherited by Flower's processes.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except EchoFedError as error:
        _explain(error)
        sys.exit(int(error.code))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception:  # noqa: BLE001 - the edge of the process; nothing goes on after it
        traceback.print_exc()
        sys.stderr.write("This is a fault of the program; please report it with the lines above.\n")
        sys.exit(int(Code.INTERNAL))


def _explain(error: EchoFedError) -> None:
    console = Console(stderr=True)
    console.print(
        f"error {int(error.code)} {error.code.name}: {error.message}", style="red", markup=False
    )
    if error.hint:
        console.print(f"way out: {error.hint}", markup=False)
