"""``echofed-site receive``: let an archive or a scanner send ultrasound into an inbox."""

import json
import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from site_client.commands.options import (
    CONFIG_FILE,
    ConfigOption,
    JsonOption,
    SetOption,
    open_site,
    receiver_tls,
)

log = logging.getLogger(__name__)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def receive(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 for any.")],
    out: Annotated[Path, typer.Option(help="The inbox, outside the site's folder.")],
    aet: Annotated[str, typer.Option(help="AE title of this receiver.")] = "ECHOFED",
    host: Annotated[
        str, typer.Option(help="Address to listen at; encrypted where settings name receive.*.")
    ] = "127.0.0.1",
    allow: Annotated[
        list[str] | None, typer.Option(metavar="AET", help="AE title that may call; repeatable.")
    ] = None,
    config: ConfigOption = Path(CONFIG_FILE),
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Store the ultrasound that is sent (C-STORE) until Ctrl-C or SIGTERM."""
    from site_client.archive.inbox import NOTICE, open_inbox
    from site_client.archive.receive import receiving
    from site_client.archive.tls import open_tls
    from site_client.federate import stopped_by_signals

    site = open_site(config, overrides)
    files = receiver_tls(site.settings.receive, config)
    tls = open_tls(files) if files else None
    if tls is None and host not in _LOOPBACK:
        log.warning("what is sent to %s comes unencrypted: set receive.certificate and key", host)
    inbox = open_inbox(out, site.store.key(), site_root=site.store.root)
    with (
        stopped_by_signals() as stop,
        receiving(inbox, title=aet, host=host, port=port, allow=allow or (), tls=tls) as receiver,
    ):
        document = {"aet": aet, "host": host, "port": receiver.port, "tls": tls is not None}
        text = json.dumps(document) if as_json else f"{aet} listens at {host}:{receiver.port}"
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
        log.warning(NOTICE)
        stop.wait()
    log.info("%d received, %d were there already", receiver.received, receiver.already)
