"""A caller's certificate that an authority makes on its own machine."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from shared.rpc.authority import (
    SERVER_RENEWED_BEFORE,
    SERVER_VALID,
    Authority,
    create_authority,
    ensure_caller_certificate,
)
from shared.rpc.peer import Credentials, Peer, peer_named_in

NOW = datetime(2026, 11, 22, tzinfo=UTC)
LATE = NOW + SERVER_VALID - SERVER_RENEWED_BEFORE


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return create_authority(tmp_path / "ca", "north hospital", now=NOW)


@pytest.fixture
def files(authority: Authority) -> Credentials:
    folder = authority.folder
    return Credentials(authority.ca_pem, folder / "caller.pem", folder / "caller.key")


def ensure(authority: Authority, files: Credentials, *, now: datetime = NOW) -> bool:
    return ensure_caller_certificate(authority, files, "north", role="site", now=now)


def test_it_is_of_the_authority_and_names_the_caller(
    authority: Authority, files: Credentials
) -> None:
    assert ensure(authority, files)
    certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(files.ca.read_bytes()))
    assert peer_named_in(certificate) == Peer("north", "site")
    assert files.key.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("now", "is_renewed"), [(LATE - timedelta(days=1), False), (LATE + timedelta(days=1), True)]
)
def test_it_is_made_again_near_its_end_only(
    authority: Authority, files: Credentials, now: datetime, *, is_renewed: bool
) -> None:
    ensure(authority, files)
    before = files.certificate.read_bytes()
    assert ensure(authority, files, now=now) is is_renewed
    assert (files.certificate.read_bytes() != before) is is_renewed
