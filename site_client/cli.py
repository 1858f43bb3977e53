"""``echofed-site``: the commands of a site, listed in ``site_client/commands``."""

import typer

from shared.console import command_line, run_main
from site_client.commands import COMMANDS


def build_app() -> typer.Typer:
    """All commands of the table; their files keep torch and flwr out of import time."""
    return command_line(
        "echofed-site",
        "EchoFed at a site: data in, experts out, predictions beside the images.",
        {name: COMMANDS[name] for name in COMMANDS.names()},
    )


def main() -> None:
    """Run the command line."""
    run_main(build_app())
