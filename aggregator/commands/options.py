"""What every subcommand takes, and the centre it opens with it."""

import getpass
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from aggregator.centre import Centre, open_centre
from shared.log import set_up_log

CONFIG_FILE = "aggregator.yaml"

ConfigOption = Annotated[Path, typer.Option("--config", help="Settings file of the centre.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="a.b=c", help="Override a setting; repeatable.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write one JSON document to stdout.")]
ActorOption = Annotated[str, typer.Option(help="Who decides; the account's name by default.")]


def open_for_command(config: Path, overrides: Sequence[str] | None) -> Centre:
    """Set up the log and open the centre.

    Raises:
        EchoFedError: CONFIG_MISSING, CONFIG_INVALID, CONFIG_UNKNOWN_KEY, STATE_NEWER.
    """
    set_up_log(site="centre")
    return open_centre(config, overrides or ())


def actor_or_account(actor: str) -> str:
    """Who acts: the name given, else the account's."""
    return actor or getpass.getuser()
