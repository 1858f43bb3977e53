"""``echofed-aggregator enrol``: admit sites, operators and auditors, or shut them out."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from shared.files import read_json, write_bytes, write_json
from shared.rpc.peer import Role

if TYPE_CHECKING:
    from aggregator.callers import CallerRole

_Asked = tuple[str, Path | None, str]
_MAKE_REQUEST = (
    "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:secp384r1 -nodes "
    "-keyout NAME.key -out NAME.csr -subj /CN=NAME"
)


def enrol(
    name: Annotated[
        str, typer.Argument(help="Site to invite; or operator or auditor to admit.")
    ] = "",
    approve: Annotated[
        Path | None,
        typer.Option(metavar="REQUEST", help="Admit who wrote this file; of callers a CSR in PEM."),
    ] = None,
    revoke: Annotated[str, typer.Option(metavar="NAME", help="Shut it out.")] = "",
    role: Annotated[Role, typer.Option(help="Who calls; only a site has a node.")] = "site",
    out: Annotated[Path, typer.Option(help="Folder for the file to send.")] = Path(),
    config: ConfigOption = Path(CONFIG_FILE),
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write NAME.kit, turn its request into a certificate, or revoke it; callers need no kit."""
    asked = (name, approve, revoke)
    centre = open_for_command(config, overrides)
    if role == "site":
        done = _enrol_site(centre, asked, out)
    else:
        done = _enrol_caller(centre, role, asked, out)
    emit(done, as_json=as_json)


def _enrol_site(centre: Centre, asked: _Asked, out: Path) -> dict[str, Any]:
    site, approve, revoke = asked
    if sum(map(bool, asked)) != 1:
        raise EchoFedError(
            Code.CONFIG_INVALID, "enrol takes SITE, --approve REQUEST or --revoke SITE", "give one"
        )
    if approve is not None:
        return _approve(centre, approve, out)
    return _revoke(centre, revoke) if revoke else _invite(centre, site, out)


def _enrol_caller(centre: Centre, role: "CallerRole", asked: _Asked, out: Path) -> dict[str, Any]:
    from aggregator.callers import admit_caller, revoke_caller

    name, approve, revoke = asked
    if revoke and not name and approve is None:
        revoke_caller(centre.authority, revoke, role=role)
        centre.ledger.append("caller.revoked", {"caller": revoke, "role": role}, actor="centre")
        return {"caller": revoke, "role": role, "status": "revoked"}
    if not name or approve is None or revoke:
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"enrol --role {role} takes NAME --approve CSR, or --revoke NAME",
            f"the {role} makes key and request: {_MAKE_REQUEST}",
        )
    if not approve.is_file():
        raise EchoFedError(
            Code.CONFIG_MISSING, f"there is no file {approve.name}", "check the folder"
        )
    caller, certificate = admit_caller(
        centre.authority, approve.read_bytes(), name, role=role, now=datetime.now(UTC)
    )
    body = {"caller": name, "role": role, "key": caller.fingerprint, "serial": caller.serial}
    centre.ledger.append("caller.admitted", body, actor="centre")
    path, ca = out / f"{name}.{role}.pem", out / f"{name}.{role}.ca.pem"
    write_bytes(path, certificate)
    write_bytes(ca, centre.authority.ca_pem.read_bytes())
    return {
        "caller": name,
        "role": role,
        "certificate": str(path),
        "ca": str(ca),
        "key": caller.fingerprint,
        "expires": caller.expires,
        "next": f"send {path.name} and {ca.name} back to {name}, whose private key stays there",
    }


def _invite(centre: Centre, site: str, out: Path) -> dict[str, Any]:
    from aggregator.enrolment import invite
    from aggregator.superlink import bundle_hash, find_bundle

    federation = centre.settings.federation
    address = f"{federation.host}:{federation.port}"
    now = datetime.now(UTC)
    kit = invite(centre.authority, site, address=address, federation=federation.name, now=now)
    path = out / f"{site}.kit"
    port = centre.settings.services.port
    services = {"services": f"{federation.host}:{port}"} if port else {}  # 0 is free each time
    write_json(path, {**kit, **services, "bundle": bundle_hash(find_bundle())})
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
