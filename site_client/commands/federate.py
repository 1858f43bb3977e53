"""``echofed-site federate``: hold this site's node in the foreground."""

import json
import sys
from pathlib import Path

from shared.errors import Code, EchoFedError
from shared.files import write_bytes
from shared.settings import save_settings
from site_client.commands.options import CONFIG_FILE, ConfigOption, JsonOption, SetOption, open_site


def federate(
    config: ConfigOption = Path(CONFIG_FILE),
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer the centre until Ctrl-C or SIGTERM; a refused node is retried for 3 minutes."""
    from site_client.federate import federate as hold_node
    from site_client.federate import free_port, stopped_by_signals
    from site_client.launch import NodeLaunch

    site = open_site(config, overrides)
    centre = site.settings.centre
    if centre is None:
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"site {site.settings.site!r} belongs to no federation",
            "run init with the centre's kit",
        )
    home = site.store.root / "node"
    resolved = site.settings.model_copy(update={"folder": site.store.root})
    write_bytes(home / CONFIG_FILE, save_settings(resolved).encode())  # --set reaches the app too
    launch = NodeLaunch(
        site=site.settings.site,
        address=centre.address,
        config=home / CONFIG_FILE,
        policy=site.policy_path,
        identity=site.store.identity_folder,
        ledger=site.store.ledger_path,
        home=home,
        runtime_port=free_port(),
        heartbeat_s=centre.heartbeat_s,
        patience_s=centre.patience_s,
    )
    document = {"site": launch.site, "centre": launch.address}
    text = json.dumps(document) if as_json else f"site {launch.site} joins {launch.address}"
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
    with stopped_by_signals() as stop:
        hold_node(launch, stop=stop)
