"""Who a site is: its node key, its certificate and the centre it trusts.

One P-384 key serves for the certificate of the connection and for Flower's signed requests, so that
the centre can compare the two.
"""

import hashlib
import hmac
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from shared.errors import Code, EchoFedError
from shared.files import read_json, write_bytes, write_json

FORMAT = 1
_KIT = {"federation", "site", "address", "ca", "token", "expires"}
_CERTIFICATE = {"site", "certificate", "ca"}


@dataclass(frozen=True, slots=True)
class Identity:
    """The ``identity/`` folder of a site and the files in it."""

    folder: Path

    @property
    def node_key(self) -> Path:
        return self.folder / "node.key"

    @property
    def tls_key(self) -> Path:
        return self.folder / "tls.key"

    @property
    def certificate(self) -> Path:
        return self.folder / "site.pem"

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def centre(self) -> Path:
        return self.folder / "centre.json"


def join(folder: Path, kit: dict[str, Any], *, now: datetime) -> dict[str, Any]:
    """Answer a kit: make the node key (once) and a certificate request bound to the kit's token.

    Args:
        folder: the site's ``identity/`` folder.
        kit: the document that the centre's ``enrol`` wrote.
        now: aware time.

    Returns:
        The request document to send back to the centre. The token is in no file afterwards.

    Raises:
        EchoFedError: TOKEN_INVALID (kit expired), WIRE_INVALID, or IDENTITY_MISMATCH where the
            folder belongs to another site.
    """
    _expect_document(kit, _KIT)
    if datetime.fromisoformat(kit["expires"]) < now:
        raise EchoFedError(
            Code.TOKEN_INVALID, "the kit has expired", "ask the centre for a new one"
        )
    identity = Identity(folder)
    if identity.centre.is_file() and read_json(identity.centre)["site"] != kit["site"]:
        raise EchoFedError(
            Code.IDENTITY_MISMATCH,
            f"this folder belongs to another site than {kit['site']!r}",
            "use the kit of this site, or another folder",
        )
    key = _ensure_key(identity)
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, kit["site"])]))
        .sign(key, hashes.SHA384())
    )
    pem = csr.public_bytes(serialization.Encoding.PEM)
    token_key = hashlib.sha256(str(kit["token"]).encode()).digest()
    proof = hmac.new(token_key, str(kit["site"]).encode() + b"\0" + pem, hashlib.sha256)
    write_bytes(identity.ca, str(kit["ca"]).encode())
    write_json(identity.centre, {name: kit[name] for name in ("federation", "site", "address")})
    return {
        "format": FORMAT,
        "site": kit["site"],
        "request": pem.decode(),
        "proof": proof.hexdigest(),
    }


def accept_certificate(folder: Path, document: dict[str, Any]) -> datetime:
    """Import the certificate that the centre signed.

    Args:
        folder: the site's ``identity/`` folder.
        document: what ``enrol --approve`` returned.

    Returns:
        The time at which the certificate ends.

    Raises:
        EchoFedError: IDENTITY_MISMATCH where it is for another key or signed by another centre.
    """
    _expect_document(document, _CERTIFICATE)
    identity = Identity(folder)
    try:
        certificate = x509.load_pem_x509_certificate(str(document["certificate"]).encode())
        centre = x509.load_pem_x509_certificate(identity.ca.read_bytes())
        certificate.verify_directly_issued_by(centre)
        belongs = certificate_key(certificate) == public_key(identity)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise EchoFedError(
            Code.IDENTITY_MISMATCH,
            "the certificate is not from the centre of the kit",
            "ask the centre for it again",
        ) from error
    if not belongs:
        raise EchoFedError(
            Code.IDENTITY_MISMATCH,
            "the certificate is for another key",
            "send this site's newest request",
        )
    write_bytes(identity.certificate, certificate.public_bytes(serialization.Encoding.PEM))
    return certificate.not_valid_after_utc


def expect_certificate(identity: Identity, *, now: datetime) -> datetime:
    """Return the end of the site's certificate, which must be there and valid.

    Raises:
        EchoFedError: CONFIG_MISSING where none was imported, CERTIFICATE_EXPIRED.
    """
    if not identity.certificate.is_file():
        raise EchoFedError(
            Code.CONFIG_MISSING,
            "this site has no certificate",
            "import what enrol --approve returned with init",
        )
    certificate = x509.load_pem_x509_certificate(identity.certificate.read_bytes())
    if certificate.not_valid_after_utc < now:
        raise EchoFedError(
            Code.CERTIFICATE_EXPIRED,
            f"the site's certificate ended on {certificate.not_valid_after_utc:%Y-%m-%d}",
            "ask the centre for a new kit and run init with it; the node key stays",
        )
    if certificate.not_valid_before_utc > now:
        raise EchoFedError(
            Code.CERTIFICATE_EXPIRED,
            "the site's certificate is not valid yet",
            "check this machine's clock",
        )
    return certificate.not_valid_after_utc


def public_key(identity: Identity) -> str:
    """The node's public key as one OpenSSH line."""
    key = serialization.load_pem_private_key(identity.tls_key.read_bytes(), None)
    return _public_line(key.public_key())


def certificate_key(certificate: x509.Certificate) -> str:
    """The public key of a certificate as one OpenSSH line, to compare with ``public_key``."""
    return _public_line(certificate.public_key())


def _ensure_key(identity: Identity) -> ec.EllipticCurvePrivateKey:
    """Load or make the key; it is kept in two encodings, OpenSSH for Flower and PKCS8 for TLS."""
    if identity.tls_key.is_file():
        key = serialization.load_pem_private_key(identity.tls_key.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return key
    key = ec.generate_private_key(ec.SECP384R1())
    identity.folder.mkdir(parents=True, exist_ok=True)
    os.chmod(identity.folder, 0o700)
    for path, encoding in (
        (identity.node_key, serialization.PrivateFormat.OpenSSH),
        (identity.tls_key, serialization.PrivateFormat.PKCS8),
    ):
        pem = key.private_bytes(serialization.Encoding.PEM, encoding, serialization.NoEncryption())
        write_bytes(path, pem)
        os.chmod(path, 0o600)
    return key


def _public_line(key: Any) -> str:
    line: bytes = key.public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return line.decode()


def _expect_document(document: dict[str, Any], keys: set[str]) -> None:
    if not isinstance(document.get("format"), int) or document["format"] > FORMAT:
        raise EchoFedError(
            Code.WIRE_INVALID,
            "the document was written by a newer release",
            "update this installation",
        )
    if missing := keys - document.keys():
        raise EchoFedError(
            Code.WIRE_INVALID,
            f"the document lacks {', '.join(sorted(missing))}",
            "ask the centre for it again",
        )
