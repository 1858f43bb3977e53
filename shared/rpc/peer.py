"""Who calls: name and role from the certificate that opened the connection.

The centre signs the role into the certificate as the last label of its DNS name: ``north.site``,
``lee.operator``, ``ito.auditor``.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, get_args

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from shared.errors import Code, EchoFedError

Role = Literal["site", "operator", "auditor"]
ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Files with which one end of a connection shows who it is and whom it trusts.

    Args:
        ca: certificate of the authority that signed the other end.
        certificate: one's own.
        key: its private key.
    """

    ca: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of a call."""

    name: str
    role: Role


def peer_of(context: grpc.ServicerContext, *, revoked_keys: Collection[str], now: datetime) -> Peer:
    """The caller; a connection outlives neither its certificate nor its key.

    Args:
        context: of the call; TLS has checked who signed the certificate.
        revoked_keys: OpenSSH lines of keys that are admitted no more.
        now: aware time.

    Raises:
        EchoFedError: NODE_REFUSED for a revoked key or a certificate without a role,
            CERTIFICATE_EXPIRED.
    """
    pem = context.auth_context().get("x509_pem_cert", [b""])[0]
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound) as error:
        raise _refused("the certificate names nobody") from error
    key = certificate.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    if key.decode() in revoked_keys:
        raise _refused("the key was revoked")
    if certificate.not_valid_after_utc < now:
        raise EchoFedError(
            Code.CERTIFICATE_EXPIRED, "the certificate has run out", "ask the centre for a new one"
        )
    found = [name.rpartition(".") for name in names.get_values_for_type(x509.DNSName)]
    role = next((role for role in ROLES if len(found) == 1 and found[0][2] == role), None)
    if role is None:
        raise _refused("the certificate names no role")
    return Peer(found[0][0], role)


def _refused(why: str) -> EchoFedError:
    return EchoFedError(Code.NODE_REFUSED, why, "ask the centre for a certificate")
