"""``echofed-site withdraw``: a dataset leaves the federation; its clips stay here."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from shared.console import emit, table
from site_client.commands.options import CONFIG_FILE, ConfigOption, JsonOption, SetOption, open_site


def withdraw(
    dataset: Annotated[str, typer.Argument(help="The dataset that is taken back.")],
    config: ConfigOption = Path(CONFIG_FILE),
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let nothing of a dataset leave any more, and delete what was made of it."""
    from site_client.withdraw import withdraw as take_back

    site = open_site(config, overrides)
    today = datetime.now(UTC).date()
    name = site.settings.site
    done = take_back(site.store, site.policy_path, dataset, site=name, today=today)
    afterwards = _afterwards(name, dataset, done.was_serving)
    if site.settings.centre is None:
        afterwards = afterwards[1:]
    facts = [
        (what, ", ".join(value) or "-" if isinstance(value, list) else str(value))
        for what, value in done.document().items()
    ]
    emit(
        {"withdrawn": done.document(), "afterwards": afterwards},
        as_json=as_json,
        tables=[
            table("withdrawn", ("what", "value"), facts),
            table("what remains to be done", ("what",), [(text,) for text in afterwards]),
        ],
    )


def _afterwards(site: str, dataset: str, was_serving: str) -> list[str]:
    todo = [
        f"the centre hears of it in its next round and must run withdraw {site}/{dataset}; "
        "ask for the certificate",
        "the clips stay here; an expert that held other datasets too must be trained again",
        "backups of this site's folder are not touched",
    ]
    if was_serving:
        todo.append(f"predictions have no fusion until the centre delivers one: {was_serving} went")
    return todo
