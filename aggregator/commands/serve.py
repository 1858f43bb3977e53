"""``echofed-aggregator serve``: host shared services in the foreground."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from aggregator.commands.options import (
    CONFIG_FILE,
    ConfigOption,
    JsonOption,
    SetOption,
    open_for_command,
)

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve(
    services: Annotated[str, typer.Option(help="Names of services, with commas.")] = "models",
    config: ConfigOption = Path(CONFIG_FILE),
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Host services until Ctrl-C or SIGTERM; calls under way may finish."""
    from aggregator.hosting import running_services
    from shared.rpc.authority import ensure_server_certificate
    from shared.rpc.metrics import metrics_address
    from shared.rpc.server import stop_signals

    centre = open_for_command(config, overrides)
    host = centre.settings.federation.host
    ensure_server_certificate(centre.authority, [host], now=datetime.now(UTC))
    listen = "127.0.0.1" if host in _LOOPBACK else "0.0.0.0"
    names = list(dict.fromkeys(name.strip() for name in services.split(",")))
    with stop_signals() as stop, running_services(centre, names, host=listen) as port:
        document = {"address": f"{host}:{port}", "services": names}
        text = f"{', '.join(names)} at {document['address']}"
        if metrics_port := centre.settings.services.metrics_port:
            document["metrics"] = metrics_address(metrics_port)
            text += f", metrics at {document['metrics']}"
        sys.stdout.write((json.dumps(document) if as_json else text) + "\n")
        sys.stdout.flush()
        stop.wait()
