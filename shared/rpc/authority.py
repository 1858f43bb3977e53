"""A private certificate authority: signs its server, every caller, and at the centre the models.

The centre has one for the federation, and each site one for the machines inside the hospital.
"""

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shared.errors import Code, EchoFedError
from shared.files import write_bytes
from shared.rpc.peer import Credentials, Role
from shared.signature import sign_card

AUTHORITY_VALID = timedelta(days=3650)
SERVER_VALID = timedelta(days=398)  # what public authorities may issue at most
SERVER_RENEWED_BEFORE = timedelta(days=30)
CLOCK_SKEW = timedelta(minutes=10)
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class Authority:
    """The folder of the certificate authority and the files in it."""

    folder: Path

    @property
    def ca_pem(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def ca_key(self) -> Path:
        return self.folder / "ca.key"

    @property
    def server_pem(self) -> Path:
        return self.folder / "server.pem"

    @property
    def server_key(self) -> Path:
        return self.folder / "server.key"

    @property
    def revoked(self) -> Path:
        return self.folder / "revoked.json"


def create_authority(folder: Path, name: str, *, now: datetime) -> Authority:
    """Make the key and the self-signed certificate of a new authority.

    Args:
        folder: where to write ``ca.pem`` and ``ca.key`` (readable by the owner only).
        name: of the federation or the hospital, shown in the certificate.
        now: aware time of issue.

    Raises:
        EchoFedError: ALREADY_EXISTS; an authority is never overwritten.
    """
    authority = Authority(folder)
    if authority.ca_key.exists():
        raise EchoFedError(
            Code.ALREADY_EXISTS,
            "there is a certificate authority already",
            "use another folder",
        )
    key = ec.generate_private_key(ec.SECP384R1())
    subject = _name(f"{name} authority", name)
    certificate = (
        _builder(subject, subject, key.public_key(), now, AUTHORITY_VALID)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA384())
    )
    write_private_key(authority.ca_key, key)
    write_bytes(authority.ca_pem, certificate.public_bytes(serialization.Encoding.PEM))
    return authority


def ensure_server_certificate(authority: Authority, hosts: Sequence[str], *, now: datetime) -> bool:
    """Issue the server certificate where it is missing, near its end or names other hosts.

    Args:
        authority: the signer; the server's files are written beside it.
        hosts: names and addresses under which callers reach it; loopback is always added.
        now: aware time.

    Returns:
        Whether a new certificate was issued.
    """
    names = sorted({*_LOOPBACK, *hosts})
    if _is_fresh(authority.server_pem, authority.server_key, names, now=now):
        return False
    key = ec.generate_private_key(ec.SECP384R1())
    certificate = _issue(
        authority,
        _name("server", ""),
        key.public_key(),
        usage=ExtendedKeyUsageOID.SERVER_AUTH,
        alternatives=[_general_name(host) for host in names],
        period=(now, SERVER_VALID),
    )
    write_private_key(authority.server_key, key)
    write_bytes(authority.server_pem, certificate.public_bytes(serialization.Encoding.PEM))
    return True


def ensure_caller_certificate(
    authority: Authority, files: Credentials, name: str, *, role: Role, now: datetime
) -> bool:
    """Make key and certificate of a caller on this machine where missing or near their end.

    Args:
        authority: the signer.
        files: where the caller's key and certificate are written.
        name: under which it calls.
        role: in which it calls.
        now: aware time.

    Returns:
        Whether a new certificate was issued.
    """
    names = [f"{name}.{role}"]
    if _is_fresh(files.certificate, files.key, names, now=now):
        return False
    key = ec.generate_private_key(ec.SECP384R1())
    certificate = _issue(
        authority,
        _name(name, ""),
        key.public_key(),
        usage=ExtendedKeyUsageOID.CLIENT_AUTH,
        alternatives=[x509.DNSName(names[0])],
        period=(now, SERVER_VALID),
    )
    write_private_key(files.key, key)
    write_bytes(files.certificate, certificate.public_bytes(serialization.Encoding.PEM))
    return True


def read_request(csr_pem: bytes) -> x509.CertificateSigningRequest:
    """Read a certificate request whose P-384 key signed it.

    Raises:
        EchoFedError: WIRE_INVALID.
    """
    try:
        csr = x509.load_pem_x509_csr(csr_pem)
        key = csr.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp384r1":
            raise ValueError("not a P-384 key")
        if not csr.is_signature_valid:
            raise InvalidSignature
    except (ValueError, InvalidSignature) as error:
        raise EchoFedError(
            Code.WIRE_INVALID,
            "the certificate request is damaged",
            "make a new one, at a site with init",
        ) from error
    return csr


def sign_site_certificate(
    authority: Authority,
    csr: x509.CertificateSigningRequest,
    site: str,
    *,
    now: datetime,
    valid: timedelta,
) -> x509.Certificate:
    """Sign the certificate with which a site's node opens connections; it cannot act as a server.

    The name comes from the enrolment, whatever the request says.
    """
    return sign_caller_certificate(authority, csr, site, role="site", period=(now, valid))


def sign_caller_certificate(
    authority: Authority,
    csr: x509.CertificateSigningRequest,
    name: str,
    *,
    role: Role,
    period: tuple[datetime, timedelta],
) -> x509.Certificate:
    """Sign the certificate with which somebody calls services in a role."""
    key = csr.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return _issue(
        authority,
        _name(name, ""),
        key,
        usage=ExtendedKeyUsageOID.CLIENT_AUTH,
        alternatives=[x509.DNSName(f"{name}.{role}")],
        period=period,
    )


def sign_model_card(authority: Authority, card: bytes) -> bytes:
    """The centre's signature on the bytes of a card."""
    return sign_card(card, _signer(authority))


def write_private_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """Write a private key as PEM, readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    os.chmod(path.parent, 0o700)
    write_bytes(
        path,
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
    os.chmod(path, 0o600)


def _is_fresh(certificate: Path, key: Path, names: Sequence[str], *, now: datetime) -> bool:
    """Whether a certificate is there, far from its end, and of these names."""
    if not (certificate.is_file() and key.is_file()):
        return False
    current = x509.load_pem_x509_certificate(certificate.read_bytes())
    far = current.not_valid_after_utc - now > SERVER_RENEWED_BEFORE
    return far and _hosts_of(current) == sorted(names)


def _issue(
    authority: Authority,
    subject: x509.Name,
    key: ec.EllipticCurvePublicKey,
    *,
    usage: x509.ObjectIdentifier,
    alternatives: Sequence[x509.GeneralName],
    period: tuple[datetime, timedelta],
) -> x509.Certificate:
    issuer = x509.load_pem_x509_certificate(authority.ca_pem.read_bytes())
    issuer_key = issuer.public_key()
    assert isinstance(issuer_key, ec.EllipticCurvePublicKey)
    return (
        _builder(subject, issuer.subject, key, *period)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False
        )
        .sign(_signer(authority), hashes.SHA384())
    )


def _signer(authority: Authority) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(authority.ca_key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    valid: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + valid)
    )


def _name(common: str, organisation: str) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common[:64])]
    if organisation:
        parts.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation[:64]))
    return x509.Name(parts)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _hosts_of(certificate: x509.Certificate) -> list[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return sorted([*addresses, *names.get_values_for_type(x509.DNSName)])
