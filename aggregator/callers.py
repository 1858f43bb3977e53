"""Certificates of callers who are no sites: operators and auditors, who make their own keys.

Their requests come to the centre by a channel that its operator trusts; no token binds them. The
fingerprint of the key tells both ends that nobody exchanged the request on the way.
"""

import hashlib
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from cryptography.hazmat.primitives import serialization

from aggregator.enrolment import (
    CERTIFICATE_VALID,
    FORMAT,
    enrolments,
    expect_site_code,
    key_line,
    revoke_key,
    revoked_keys,
)
from shared.errors import Code, EchoFedError
from shared.files import read_json, write_json
from shared.rpc.authority import Authority, read_request, sign_caller_certificate

CallerRole = Literal["operator", "auditor"]


@dataclass(frozen=True, slots=True)
class Caller:
    """What the centre knows of a caller.

    Args:
        public_key: of its newest certificate, as one OpenSSH line.
        serial: of that certificate, in hex.
        expires: ISO time at which it ends.
    """

    name: str
    role: CallerRole
    status: Literal["approved", "revoked"]
    public_key: str
    serial: str
    expires: str

    @property
    def fingerprint(self) -> str:
        """SHA-256 in hex of the public key in DER, as openssl writes it."""
        key = serialization.load_ssh_public_key(self.public_key.encode())
        der = key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return hashlib.sha256(der).hexdigest()


def admit_caller(
    authority: Authority,
    csr_pem: bytes,
    name: str,
    *,
    role: CallerRole,
    now: datetime,
    valid: timedelta = CERTIFICATE_VALID,
) -> tuple[Caller, bytes]:
    """Sign a caller's request, or renew its certificate.

    Args:
        authority: the centre's certificate authority.
        csr_pem: the request, signed by a P-384 key; the name in it does not count.
        name: under which it calls; lower-case letters, digits and dashes.
        role: in which it calls.
        now: aware time.
        valid: life of the certificate.

    Returns:
        The caller and the certificate in PEM.

    Raises:
        EchoFedError: CONFIG_INVALID for a bad name, WIRE_INVALID for a bad request,
            IDENTITY_MISMATCH where the caller has another key, or the key is somebody else's or
            was revoked.
    """
    expect_site_code(name)
    csr = read_request(csr_pem)
    line = key_line(csr)
    known = find_caller(authority, name, role)
    if known is not None and known.status == "approved" and known.public_key != line:
        raise EchoFedError(
            Code.IDENTITY_MISMATCH,
            f"{role} {name!r} is already admitted with another key",
            f"run enrol --role {role} --revoke {name} first",
        )
    others = [one.public_key for one in enrolments(authority)]
    others += [one.public_key for one in callers(authority) if (one.name, one.role) != (name, role)]
    if line in revoked_keys(authority) or line in others:
        raise EchoFedError(
            Code.IDENTITY_MISMATCH,
            "the key of this request was revoked or is somebody else's",
            "let its owner make a new key",
        )
    certificate = sign_caller_certificate(authority, csr, name, role=role, period=(now, valid))
    ends = certificate.not_valid_after_utc.isoformat(timespec="seconds")
    caller = Caller(name, role, "approved", line, f"{certificate.serial_number:x}", ends)
    _save(authority, caller)
    return caller, certificate.public_bytes(serialization.Encoding.PEM)


def revoke_caller(authority: Authority, name: str, *, role: CallerRole) -> Caller:
    """Shut a caller out: from now on no service takes its key.

    Raises:
        EchoFedError: NAME_UNKNOWN.
    """
    known = find_caller(authority, name, role)
    if known is None:
        raise EchoFedError(
            Code.NAME_UNKNOWN, f"no {role} {name!r} was admitted", "status lists the callers"
        )
    revoke_key(authority, known.public_key)
    revoked = replace(known, status="revoked")
    _save(authority, revoked)
    return revoked


def callers(authority: Authority) -> tuple[Caller, ...]:
    """All callers by role and name."""
    paths = sorted((authority.folder / "callers").glob("*/*.json"))
    documents = [read_json(path) for path in paths]
    return tuple(Caller(**{k: v for k, v in one.items() if k != "format"}) for one in documents)


def find_caller(authority: Authority, name: str, role: CallerRole) -> Caller | None:
    """One caller, or None."""
    return next((one for one in callers(authority) if (one.name, one.role) == (name, role)), None)


def _save(authority: Authority, caller: Caller) -> None:
    path: Path = authority.folder / "callers" / caller.role / f"{caller.name}.json"
    write_json(path, {"format": FORMAT, **asdict(caller)})
