"""``echofed-aggregator``: the commands of the centre, listed in ``aggregator/commands``."""

import typer

from aggregator.commands import COMMANDS
from shared.console import run_main


def build_app() -> typer.Typer:
    """All commands of the table; their files keep torch, mlflow and flwr out of import time."""
    app = typer.Typer(
        name="echofed-aggregator",
        help="EchoFed at the centre: sites in, experts and features in, fusions out.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for name in COMMANDS.names():
        app.command(name)(COMMANDS[name])
    return app


def main() -> None:
    """Run the command line."""
    run_main(build_app())
