"""``echofed-aggregator enrol``: invite a site, admit it, or shut it out."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from aggregator.centre import Centre
from aggregator.commands.options import (
    CONFIG_FILE,
    ConfigOption,
    JsonOption,
    SetOption,
    open_for_command,
)
from shared.console import emit
from shared.errors import Code, EchoFedError
from shared.files import read_json, write_json


def enrol(
    site: Annotated[str, typer.Argument(help="Site code to invite.")] = "",
    approve: Annotated[
        Path | None, typer.Option(metavar="REQUEST", help="Admit the site that wrote this file.")
    ] = None,
    revoke: Annotated[str, typer.Option(metavar="SITE", help="Shut a site out.")] = "",
    out: Annotated[Path, typer.Option(help="Folder for the file to send.")] = Path(),
    config: ConfigOption = Path(CONFIG_FILE),
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write SITE.kit, turn SITE.request into SITE.certificate, or revoke a site."""
    if sum(map(bool, (site, approve, revoke))) != 1:
        raise EchoFedError(
            Code.CONFIG_INVALID, "enrol takes SITE, --approve REQUEST or --revoke SITE", "give one"
        )
    centre = open_for_command(config, overrides)
    if approve is not None:
        done = _approve(centre, approve, out)
    else:
        done = _revoke(centre, revoke) if revoke else _invite(centre, site, out)
    emit(done, as_json=as_json)


def _invite(centre: Centre, site: str, out: Path) -> dict[str, Any]:
    from aggregator.enrolment import invite
    from aggregator.superlink import bundle_hash, find_bundle

    federation = centre.settings.federation
    address = f"{federation.host}:{federation.port}"
    now = datetime.now(UTC)
    kit = invite(centre.authority, site, address=address, federation=federation.name, now=now)
    path = out / f"{site}.kit"
    write_json(path, {**kit, "bundle": bundle_hash(find_bundle())})
    path.chmod(0o600)  # it holds the one-time token
    centre.ledger.append("site.invited", {"site": site}, actor="centre")
    return {
        "site": site,
        "kit": str(path),
        "expires": kit["expires"],
        "next": f"send {path.name} to the site by a channel you trust; it holds a one-time token",
    }


def _approve(centre: Centre, request: Path, out: Path) -> dict[str, Any]:
    from aggregator.enrolment import approve
    from aggregator.operator import admit, register_site

    entry, certificate = approve(
        centre.authority,
        read_json(request),
        federation=centre.settings.federation.name,
        now=datetime.now(UTC),
    )
    admit(centre, entry)
    path = out / f"{entry.site}.certificate"
    write_json(path, certificate)
    return {
        "site": entry.site,
        "certificate": str(path),
        "expires": entry.expires,
        "registered": register_site(centre, entry),
        "next": f"send {path.name} back to the site; its node is registered once federate runs",
    }


def _revoke(centre: Centre, site: str) -> dict[str, Any]:
    from aggregator.operator import expel

    expel(centre, site)
    return {"site": site, "status": "revoked"}
