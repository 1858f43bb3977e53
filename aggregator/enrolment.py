"""Admission of sites: a one-time kit goes out, a request comes back, a certificate is returned.

The request is bound to the kit by an HMAC under the one-time token, so that a request which
somebody else slipped in is refused. A site's node key, its certificate and its name at the
SuperLink are one and the same identity.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from shared.errors import Code, EchoFedError
from shared.files import read_json, write_json
from shared.rpc.authority import Authority, read_request, sign_site_certificate

FORMAT = 1
KIT_VALID = timedelta(days=7)
CERTIFICATE_VALID = timedelta(days=365)
_SITE = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")

Status = Literal["invited", "approved", "revoked"]


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What the centre knows of one site's admission.

    Args:
        site: site code; also the node's name at the SuperLink and the common name of the
            certificate.
        status: invited (kit out), approved (certificate signed) or revoked.
        token_key: SHA-256 of the one-time token in hex; empty once it is used.
        token_expires: ISO time after which the kit is worthless.
        public_key: the node's key as one OpenSSH line.
        node_id: the SuperLink's number of the node; None until it is registered there.
        serial: serial number of the newest certificate, in hex.
        expires: ISO time at which that certificate ends.
    """

    site: str
    status: Status
    token_key: str = ""
    token_expires: str = ""
    public_key: str = ""
    node_id: str | None = None
    serial: str = ""
    expires: str = ""


def invite(
    authority: Authority,
    site: str,
    *,
    address: str,
    federation: str,
    now: datetime,
    valid: timedelta = KIT_VALID,
) -> dict[str, Any]:
    """Invite a site, or renew the certificate of one that is already in.

    Args:
        authority: the centre's certificate authority.
        site: site code, lower-case letters, digits and dashes.
        address: ``host:port`` under which the site reaches the front.
        federation: name of the federation.
        now: aware time.
        valid: life of the one-time token.

    Returns:
        The kit: a JSON document with the CA, the address and the token. It is a secret until it is
        used.
    """
    expect_site_code(site)
    token = secrets.token_urlsafe(32)
    known = find(authority, site)
    if known is not None and known.status == "revoked":
        known = None  # the old key stays revoked; the site comes back with a new one
    expires = (now + valid).isoformat(timespec="seconds")
    entry = known or Enrolment(site, "invited")
    _save(authority, replace(entry, token_key=_token_key(token), token_expires=expires))
    return {
        "format": FORMAT,
        "federation": federation,
        "site": site,
        "address": address,
        "ca": authority.ca_pem.read_text(),
        "token": token,
        "expires": expires,
    }


def approve(
    authority: Authority,
    request: dict[str, Any],
    *,
    federation: str,
    now: datetime,
    valid: timedelta = CERTIFICATE_VALID,
) -> tuple[Enrolment, dict[str, Any]]:
    """Check a site's request, sign its certificate and use up the token.

    Args:
        authority: the centre's certificate authority.
        request: the document that the site's ``init`` wrote.
        federation: name of the federation.
        now: aware time.
        valid: life of the certificate.

    Returns:
        The enrolment, still to be registered with the SuperLink where ``node_id`` is None, and the
        certificate document for the site to import.

    Raises:
        EchoFedError: TOKEN_INVALID, WIRE_INVALID, or IDENTITY_MISMATCH where the site already has
            another key.
    """
    expect_format(request, {"site", "request", "proof"})
    entry = find(authority, expect_site_code(request["site"]))
    pem = str(request["request"]).encode()
    _expect_token(entry, request["site"], pem, str(request["proof"]), now)
    assert entry is not None
    csr = read_request(pem)
    public_key = key_line(csr)
    if entry.public_key and entry.public_key != public_key:
        raise EchoFedError(
            Code.IDENTITY_MISMATCH,
            f"site {entry.site!r} is already admitted with another key",
            f"run enrol --revoke {entry.site} first, then invite it again",
        )
    if public_key in revoked_keys(authority):
        raise EchoFedError(
            Code.IDENTITY_MISMATCH,
            f"the key of this request was revoked with site {entry.site!r}",
            "start the site in a new folder; it makes a new key there",
        )
    certificate = sign_site_certificate(authority, csr, entry.site, now=now, valid=valid)
    approved = replace(
        entry,
        status="approved",
        token_key="",
        public_key=public_key,
        serial=f"{certificate.serial_number:x}",
        expires=certificate.not_valid_after_utc.isoformat(timespec="seconds"),
    )
    _save(authority, approved)
    return approved, {
        "format": FORMAT,
        "federation": federation,
        "site": entry.site,
        "certificate": certificate.public_bytes(serialization.Encoding.PEM).decode(),
        "ca": authority.ca_pem.read_text(),
    }


def revoke(authority: Authority, site: str) -> Enrolment:
    """Shut a site out: from now on the front refuses its key, whatever certificate it shows."""
    entry = expect_enrolment(authority, site)
    if entry.public_key:
        revoke_key(authority, entry.public_key)
    revoked = replace(entry, status="revoked", token_key="")
    _save(authority, revoked)
    return revoked


def revoke_key(authority: Authority, public_key: str) -> None:
    """Let no certificate of a key (OpenSSH line) count any more."""
    keys = set(revoked_keys(authority)) | {public_key}
    write_json(authority.revoked, {"format": FORMAT, "keys": sorted(keys)})


def key_line(csr: x509.CertificateSigningRequest) -> str:
    """The key of a request as one OpenSSH line."""
    key = csr.public_key()
    return key.public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    ).decode()


def revoked_keys(authority: Authority) -> frozenset[str]:
    """Keys (OpenSSH lines) that no certificate can bring back."""
    if not authority.revoked.is_file():
        return frozenset()
    return frozenset(read_json(authority.revoked)["keys"])


def note_node(authority: Authority, site: str, node_id: str | None) -> Enrolment:
    """Remember the SuperLink's number of a site's node (None: it is registered there no more)."""
    entry = replace(expect_enrolment(authority, site), node_id=node_id)
    _save(authority, entry)
    return entry


def enrolments(authority: Authority) -> tuple[Enrolment, ...]:
    """All enrolments in the order of their site codes."""
    return tuple(
        Enrolment(**{key: value for key, value in read_json(path).items() if key != "format"})
        for path in sorted((authority.folder / "sites").glob("*.json"))
    )


def find(authority: Authority, site: str) -> Enrolment | None:
    """The enrolment of a site, or None."""
    return next((entry for entry in enrolments(authority) if entry.site == site), None)


def expect_enrolment(authority: Authority, site: str) -> Enrolment:
    """The enrolment of a site that must exist."""
    entry = find(authority, site)
    if entry is None:
        raise EchoFedError(Code.NAME_UNKNOWN, f"no site {site!r} is enrolled", f"run enrol {site}")
    return entry


def expect_site_code(site: object) -> str:
    """Return the site code if it can stand in a file name, a certificate and a node name."""
    if not isinstance(site, str) or not _SITE.fullmatch(site):
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"{site!r} is not a site code",
            "use 1 to 32 lower-case letters, digits and dashes",
        )
    return site


def expect_format(document: dict[str, Any], keys: set[str]) -> None:
    """Refuse a document of a newer release or one with parts missing."""
    if not isinstance(document.get("format"), int) or document["format"] > FORMAT:
        raise EchoFedError(
            Code.WIRE_INVALID,
            "the document was written by another release",
            "update this installation",
        )
    if missing := keys - document.keys():
        raise EchoFedError(
            Code.WIRE_INVALID,
            f"the document lacks {', '.join(sorted(missing))}",
            "ask for it again",
        )


def _expect_token(
    entry: Enrolment | None, site: str, pem: bytes, proof: str, now: datetime
) -> None:
    hint = f"run enrol {site} and send the new kit to the site"
    if entry is None or not entry.token_key:
        raise EchoFedError(Code.TOKEN_INVALID, f"no kit of site {site!r} is open", hint)
    if datetime.fromisoformat(entry.token_expires) < now:
        raise EchoFedError(Code.TOKEN_INVALID, f"the kit of site {site!r} has expired", hint)
    expected = hmac.new(bytes.fromhex(entry.token_key), site.encode() + b"\0" + pem, hashlib.sha256)
    if not hmac.compare_digest(expected.hexdigest(), proof):
        raise EchoFedError(
            Code.TOKEN_INVALID, f"the request does not belong to the kit of {site!r}", hint
        )


def _token_key(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _save(authority: Authority, entry: Enrolment) -> None:
    write_json(
        authority.folder / "sites" / f"{entry.site}.json", {"format": FORMAT, **asdict(entry)}
    )
