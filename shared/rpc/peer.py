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


def peer_of(context: grpc.ServicerContext) -> Peer:
    """Name and role of the caller, who may still not be admitted.

    Args:
        context: of the call; TLS has checked who signed the certificate.

    Raises:
        EchoFedError: NODE_REFUSED for a certificate without a role.
    """
    return peer_named_in(_certificate_of(context))


def peer_named_in(certificate: x509.Certificate) -> Peer:
    """Name and role that a certificate of the centre gives its holder.

    Raises:
        EchoFedError: NODE_REFUSED for a certificate without a role.
    """
    names = certificate.extensions
    try:
        found = names.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound as error:
        raise _refused("the certificate names nobody") from error
    parts = [name.rpartition(".") for name in found.get_values_for_type(x509.DNSName)]
    role = next((role for role in ROLES if len(parts) == 1 and parts[0][2] == role), None)
    if role is None:
        raise _refused("the certificate names no role")
    return Peer(parts[0][0], role)


def expect_admitted(
    context: grpc.ServicerContext, *, revoked_keys: Collection[str], now: datetime
) -> Peer:
    """The caller, admitted: a connection outlives neither its certificate nor its key.

    Args:
        context: of the call.
        revoked_keys: OpenSSH lines of keys that are admitted no more.
        now: aware time.

    Raises:
        EchoFedError: NODE_REFUSED for a revoked key or as ``peer_of``, CERTIFICATE_EXPIRED.
    """
    certificate = _certificate_of(context)
    key = certificate.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    if key.decode() in revoked_keys:
        raise _refused("the key was revoked")
    if certificate.not_valid_after_utc < now:
        raise EchoFedError(
            Code.CERTIFICATE_EXPIRED, "the certificate has run out", "ask the centre for a new one"
        )
    return peer_of(context)


def _certificate_of(context: grpc.ServicerContext) -> x509.Certificate:
    return x509.load_pem_x509_certificate(context.auth_context()["x509_pem_cert"][0])


def _refused(why: str) -> EchoFedError:
    return EchoFedError(Code.NODE_REFUSED, why, "ask the centre for a certificate")
