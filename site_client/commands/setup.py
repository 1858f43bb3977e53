"""``echofed-site init``: a folder becomes a site, by itself or with a centre's kit."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from shared.console import emit
from shared.errors import Code, EchoFedError
from shared.files import read_json, write_bytes, write_json
from shared.ledger import Ledger
from shared.settings import apply_override, build_settings
from site_client.commands.options import (
    CONFIG_FILE,
    POLICY_FILE,
    ConfigOption,
    JsonOption,
    SetOption,
)
from site_client.identity import accept_certificate, join
from site_client.policy import Policy, save_policy
from site_client.settings import SiteSettings
from site_client.store import SiteStore, require_name


def init(
    document: Annotated[
        Path | None, typer.Argument(metavar="[KIT]", help="The centre's kit, or its certificate.")
    ] = None,
    standalone: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Make a site without any centre.")
    ] = None,
    site: Annotated[str, typer.Option(help="Site code; the folder's name by default.")] = "",
    config: ConfigOption = Path(CONFIG_FILE),
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a site, answer a centre's kit with a request, or import its certificate."""
    if (document is None) == (standalone is None):
        raise EchoFedError(
            Code.CONFIG_INVALID,
            "init takes a KIT or --standalone FOLDER",
            "give exactly one of them",
        )
    if standalone is not None:
        done = _init_standalone(standalone, site, overrides or ())
    else:
        assert document is not None
        done = _init_with_centre(config, document, overrides or ())
    emit(done, as_json=as_json)


def _init_standalone(folder: Path, site: str, overrides: Sequence[str]) -> dict[str, Any]:
    name = site or folder.resolve().name
    require_name(name)
    config = folder / CONFIG_FILE
    if config.exists():
        raise EchoFedError(
            Code.ALREADY_EXISTS,
            f"{folder.name} is a site already",
            "choose another folder, or use it as it is",
        )
    _furnish(folder, name)
    _save_settings(config, {"site": name}, overrides)
    return {"site": name, "centre": None, "settings": CONFIG_FILE, "policy": POLICY_FILE}


def _init_with_centre(config: Path, document: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Answer a kit, or import a certificate: the document says which it is."""
    content = read_json(document)
    identity = SiteStore(config.parent).identity_folder
    if "certificate" in content:
        ends = accept_certificate(identity, content)
        return {"site": content["site"], "certificate_ends": ends.isoformat(timespec="seconds")}
    request = join(identity, content, now=datetime.now(UTC))
    name = str(content["site"])
    known = yaml.safe_load(config.read_text("utf-8")) if config.is_file() else {}
    centre = {key: content[key] for key in ("address", "federation", "services") if key in content}
    _furnish(config.parent, name)
    _save_settings(config, {**known, "site": name, "centre": centre}, overrides)
    request_path = config.parent / f"{name}.request"
    write_json(request_path, request)
    return {
        "site": name,
        "centre": content["address"],
        "federation": content["federation"],
        "settings": config.name,
        "policy": POLICY_FILE,
        "request": str(request_path),
        "next": f"send {request_path.name} to the centre, then run init with what it returns",
    }


def _furnish(folder: Path, site: str) -> None:
    """Make key, ledger and a policy that denies everything, where they are not there yet."""
    store = SiteStore(folder)
    store.create_key()
    policy = folder / POLICY_FILE
    if not policy.is_file():
        save_policy(Policy(), policy)
        Ledger(store.ledger_path).append("site.created", {"site": site}, actor=site)


def _save_settings(config: Path, tree: dict[str, Any], overrides: Sequence[str]) -> None:
    """Write what differs from the defaults, once it is valid."""
    for override in overrides:
        apply_override(tree, override)
    build_settings(SiteSettings, tree)
    write_bytes(config, yaml.safe_dump(tree, sort_keys=False, allow_unicode=True).encode())
