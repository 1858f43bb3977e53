"""``echofed-site doctor``: what is not as it should be, and how to mend it."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from shared.console import emit, progress, table
from site_client.commands.options import (
    CONFIG_FILE,
    ConfigOption,
    JsonOption,
    SetOption,
    open_site,
    receiver_tls,
)


def doctor(
    full: Annotated[bool, typer.Option("--full", help="Read every clip, not a sample.")] = False,
    config: ConfigOption = Path(CONFIG_FILE),
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look at machine, keys, network, decoders, policy, ledger and data; mend nothing.

    Ends with 0 where there is no fault, else with the number of the first fault's error code.
    """
    from site_client.doctor import CHECKS
    from site_client.doctor.examine import examine
    from site_client.doctor.finding import Premises

    site = open_site(config, overrides)
    centre = site.settings.centre
    premises = Premises(
        store=site.store,
        policy=site.policy_path,
        address=centre.address if centre else None,
        now=datetime.now(UTC),
        is_full=full,
        receiver=receiver_tls(site.settings.receive, config),
        site=site.settings.site,
    )
    with progress("doctor", len(CHECKS.names())) as advance:
        found = examine(premises, advance)
    rows = [
        {
            "check": name,
            "state": finding.state,
            "what": finding.what,
            "mend": finding.mend,
            "code": finding.code.name if finding.code else None,
        }
        for name, finding in found
    ]
    counts = {state: sum(row["state"] == state for row in rows) for state in _STATES}
    shown = [
        (row["check"], row["state"], escape(f"{row['what']}{_arrow(row['mend'])}")) for row in rows
    ]
    title = ", ".join(f"{count} {state}" for state, count in counts.items())
    document = {"site": site.settings.site, **counts, "findings": rows}
    emit(document, as_json=as_json, tables=[table(title, ("check", "state", "finding"), shown)])
    codes = [finding.code for _, finding in found if finding.code is not None]
    if codes:
        raise typer.Exit(int(codes[0]))


_STATES = ("ok", "warning", "fault")


def _arrow(mend: str | None) -> str:
    return f"\n-> {mend}" if mend else ""
