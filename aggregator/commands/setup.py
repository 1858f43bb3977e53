"""``echofed-aggregator init``: a folder becomes a centre."""

import socket
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from aggregator.commands.options import CONFIG_FILE, ConfigOption, JsonOption, SetOption
from aggregator.settings import AggregatorSettings
from aggregator.state import open_state
from shared.console import emit
from shared.errors import Code, EchoFedError
from shared.files import write_bytes
from shared.ledger import Ledger
from shared.log import set_up_log
from shared.rpc.authority import create_authority, ensure_server_certificate
from shared.settings import apply_override, build_settings


def init(
    config: ConfigOption = Path(CONFIG_FILE),
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a private authority, a server certificate, the state and the settings file."""
    set_up_log(site="centre")
    if config.exists():
        raise EchoFedError(
            Code.ALREADY_EXISTS,
            f"{config.name} is there already",
            "use it as it is, or choose another folder with --config",
        )
    tree = _settings_tree(overrides or ())
    settings = build_settings(AggregatorSettings, tree)
    folder = config.resolve().parent / settings.folder
    now = datetime.now(UTC)
    authority = create_authority(folder / "ca", settings.federation.name, now=now)
    ensure_server_certificate(authority, [settings.federation.host], now=now)
    open_state(folder, settings.store.database).close()
    body = {"federation": settings.federation.name}
    Ledger(folder / "ledger.sqlite").append("centre.created", body, actor="centre")
    write_bytes(config, yaml.safe_dump(tree, sort_keys=False).encode())
    emit(_document(config, settings), as_json=as_json)


def _settings_tree(overrides: Sequence[str]) -> dict[str, Any]:
    """What is given, with free ports written down where 0 was asked for."""
    tree: dict[str, Any] = {"federation": {}}
    for override in overrides:
        apply_override(tree, override)
    wanted = [name for name in ("port", "superlink_port") if tree["federation"].get(name) == 0]
    tree["federation"].update(zip(wanted, _free_ports(len(wanted)), strict=True))
    return tree


def _free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def _document(config: Path, settings: AggregatorSettings) -> dict[str, Any]:
    from aggregator.superlink import bundle_hash, find_bundle

    return {
        "settings": config.name,
        "federation": settings.federation.name,
        "address": f"{settings.federation.host}:{settings.federation.port}",
        "bundle": bundle_hash(find_bundle()),
        "next": "invite sites with enrol SITE; each site approves the bundle in its policy.yaml",
    }
