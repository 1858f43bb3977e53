"""``echofed-aggregator``: the commands of the centre, listed in ``aggregator/commands``."""

import typer

from aggregator.commands import COMMANDS
from shared.console import command_line, run_main


def build_app() -> typer.Typer:
    """All commands of the table; their files keep torch, mlflow and flwr out of import time."""
    return command_line(
        "echofed-aggregator",
        "EchoFed at the centre: sites in, experts and features in, fusions out.",
        {name: COMMANDS[name] for name in COMMANDS.names()},
    )


def main() -> None:
    """Run the command line."""
    run_main(build_app())
