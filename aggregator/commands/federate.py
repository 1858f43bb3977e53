"""``echofed-aggregator federate``: hold the SuperLink and the TLS front in the foreground."""

import json
import signal
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

from aggregator.commands.options import (
    CONFIG_FILE,
    ConfigOption,
    JsonOption,
    SetOption,
    open_for_command,
)
from shared.errors import Code, EchoFedError

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
LOOK_S = 1.0


def federate(
    config: ConfigOption = Path(CONFIG_FILE),
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let sites join until Ctrl-C or SIGTERM; then stop everything that was started."""
    from aggregator.front import running_front
    from aggregator.operator import register_nodes, superlink_of
    from aggregator.superlink import running_superlink
    from shared.rpc.authority import ensure_server_certificate

    centre = open_for_command(config, overrides)
    federation = centre.settings.federation
    ensure_server_certificate(centre.authority, [federation.host], now=datetime.now(UTC))
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    link = superlink_of(centre)
    listen = "127.0.0.1" if federation.host in _LOOPBACK else "0.0.0.0"
    with (
        running_superlink(link) as process,
        running_front(link, host=listen, port=federation.port) as port,
    ):
        sites = register_nodes(centre)
        _say({"address": f"{federation.host}:{port}", "registered": list(sites)}, as_json=as_json)
        while not stop.wait(LOOK_S):
            if process.poll() is not None:
                raise EchoFedError(
                    Code.CENTRE_UNREACHABLE,
                    f"the SuperLink ended with {process.returncode}",
                    f"see {link.log.name}, then run federate again; an increment resumes",
                )


def _say(document: dict[str, object], *, as_json: bool) -> None:
    """Tell at once that sites may come; this command writes nothing later."""
    text = json.dumps(document) if as_json else f"sites may join at {document['address']}"
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
