"""``echofed-site serve``: host services for machines of the hospital in the foreground."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from site_client.commands.options import CONFIG_FILE, ConfigOption, JsonOption, SetOption, open_site


def serve(
    services: Annotated[str, typer.Option(help="Names of services, with commas.")] = "segmentation",
    config: ConfigOption = Path(CONFIG_FILE),
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Host services until Ctrl-C or SIGTERM; calls under way may finish."""
    from shared.rpc.metrics import metrics_address
    from shared.rpc.server import stop_signals
    from site_client.hosting import ensure_hospital, running_services

    site = open_site(config, overrides)
    settings, name = site.settings.services, site.settings.site
    ensure_hospital(site.store, settings, site=name, now=datetime.now(UTC))
    names = list(dict.fromkeys(one.strip() for one in services.split(",")))
    with (
        stop_signals() as stop,
        running_services(site.store, settings, names, site=name) as port,
    ):
        document = {"address": f"{settings.host}:{port}", "services": names}
        text = f"{', '.join(names)} at {document['address']}"
        if settings.metrics_port:
            document["metrics"] = metrics_address(settings.metrics_port)
            text += f", metrics at {document['metrics']}"
        sys.stdout.write((json.dumps(document) if as_json else text) + "\n")
        sys.stdout.flush()
        stop.wait()
