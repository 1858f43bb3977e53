"""Certificates of a centre for one caller of each role, and of a centre that is not ours."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from shared.rpc.authority import (
    Authority,
    create_authority,
    ensure_server_certificate,
    sign_caller_certificate,
    write_private_key,
)
from shared.rpc.peer import ROLES, Credentials, Role


def caller(
    authority: Authority, folder: Path, name: str, role: Role, *, valid: timedelta
) -> Credentials:
    """A new key with a certificate of the centre."""
    key = ec.generate_private_key(ec.SECP384R1())
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(key, hashes.SHA384())
    )
    signed = sign_caller_certificate(
        authority, csr, name, role=role, period=(datetime.now(UTC), valid)
    )
    write_private_key(folder / f"{role}.key", key)
    (folder / f"{role}.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    return Credentials(authority.ca_pem, folder / f"{role}.pem", folder / f"{role}.key")


@pytest.fixture(scope="session")
def passes(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Credentials]:
    """Credentials by role, ``server``, and ``foreign``: a site of another centre."""
    root, now = tmp_path_factory.mktemp("passes"), datetime.now(UTC)
    ours, theirs = (create_authority(root / name, name, now=now) for name in ("ours", "theirs"))
    ensure_server_certificate(ours, [], now=now)
    valid = timedelta(days=1)
    made = {
        role: caller(ours, root / "callers", f"the-{role}", role, valid=valid) for role in ROLES
    }
    return {
        **made,
        "server": Credentials(ours.ca_pem, ours.server_pem, ours.server_key),
        "foreign": caller(theirs, root / "foreign", "the-site", "site", valid=valid),
    }
