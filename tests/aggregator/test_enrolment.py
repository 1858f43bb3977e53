"""A site comes in with its own kit, once, under its own name, and not after it was shut out."""

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from aggregator.enrolment import approve, enrolments, find, invite, note_node, revoke, revoked_keys
from shared.errors import Code, EchoFedError
from shared.rpc.authority import (
    SERVER_VALID,
    Authority,
    create_authority,
    ensure_server_certificate,
)
from site_client.identity import (
    Identity,
    accept_certificate,
    expect_certificate,
    join,
    public_key,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return create_authority(tmp_path / "ca", "test", now=NOW)


def kit_for(authority: Authority, site: str = "north") -> dict[str, Any]:
    return invite(authority, site, address="127.0.0.1:8443", federation="test", now=NOW)


def admit(authority: Authority, folder: Path, site: str = "north") -> dict[str, Any]:
    request = join(folder, kit_for(authority, site), now=NOW)
    _, document = approve(authority, request, federation="test", now=NOW)
    return document


def test_a_site_is_admitted_under_the_name_of_its_kit(authority: Authority, tmp_path: Path) -> None:
    document = admit(authority, tmp_path / "site")
    ends = accept_certificate(tmp_path / "site", document)
    certificate = x509.load_pem_x509_certificate(
        Identity(tmp_path / "site").certificate.read_bytes()
    )
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert [name.value for name in names] == ["north"]
    assert ends == expect_certificate(Identity(tmp_path / "site"), now=NOW)


def test_the_registered_key_is_the_node_key(authority: Authority, tmp_path: Path) -> None:
    admit(authority, tmp_path / "site")
    entry = find(authority, "north")
    assert entry is not None
    assert entry.public_key == public_key(Identity(tmp_path / "site"))
    assert entry.status == "approved"
    assert entry.node_id is None


def test_a_site_certificate_cannot_act_as_a_server_or_sign(
    authority: Authority, tmp_path: Path
) -> None:
    accept_certificate(tmp_path / "site", admit(authority, tmp_path / "site"))
    certificate = x509.load_pem_x509_certificate(
        Identity(tmp_path / "site").certificate.read_bytes()
    )
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert constraints.ca is False


def test_a_kit_admits_once(authority: Authority, tmp_path: Path) -> None:
    request = join(tmp_path / "site", kit_for(authority), now=NOW)
    approve(authority, request, federation="test", now=NOW)
    with pytest.raises(EchoFedError) as caught:
        approve(authority, request, federation="test", now=NOW)
    assert caught.value.code is Code.TOKEN_INVALID


def test_an_old_kit_admits_nobody(authority: Authority, tmp_path: Path) -> None:
    kit = kit_for(authority)
    request = join(tmp_path / "site", kit, now=NOW)
    late = NOW + timedelta(days=8)
    with pytest.raises(EchoFedError) as caught:
        approve(authority, request, federation="test", now=late)
    assert caught.value.code is Code.TOKEN_INVALID
    with pytest.raises(EchoFedError) as caught:
        join(tmp_path / "other", kit, now=late)
    assert caught.value.code is Code.TOKEN_INVALID


def test_a_new_kit_ends_the_one_before(authority: Authority, tmp_path: Path) -> None:
    request = join(tmp_path / "site", kit_for(authority), now=NOW)
    kit_for(authority)
    with pytest.raises(EchoFedError) as caught:
        approve(authority, request, federation="test", now=NOW)
    assert caught.value.code is Code.TOKEN_INVALID


def test_a_request_swapped_on_the_way_is_refused(authority: Authority, tmp_path: Path) -> None:
    real = join(tmp_path / "site", kit_for(authority), now=NOW)
    forged_kit = {**kit_for(authority, "other"), "site": "north"}
    forged = join(tmp_path / "thief", forged_kit, now=NOW)
    with pytest.raises(EchoFedError) as caught:
        approve(authority, {**real, "request": forged["request"]}, federation="test", now=NOW)
    assert caught.value.code is Code.TOKEN_INVALID


def test_a_damaged_request_is_refused(authority: Authority, tmp_path: Path) -> None:
    request = join(tmp_path / "site", kit_for(authority), now=NOW)
    for broken in ({**request, "format": 2}, {"format": 1, "site": "north"}):
        with pytest.raises(EchoFedError) as caught:
            approve(authority, broken, federation="test", now=NOW)
        assert caught.value.code is Code.WIRE_INVALID


def test_a_second_key_under_the_same_name_is_refused(authority: Authority, tmp_path: Path) -> None:
    admit(authority, tmp_path / "site")
    request = join(tmp_path / "impostor", kit_for(authority), now=NOW)
    with pytest.raises(EchoFedError) as caught:
        approve(authority, request, federation="test", now=NOW)
    assert caught.value.code is Code.IDENTITY_MISMATCH


def test_a_site_renews_with_the_key_it_has(authority: Authority, tmp_path: Path) -> None:
    admit(authority, tmp_path / "site")
    note_node(authority, "north", "17")
    before = find(authority, "north")
    document = admit(authority, tmp_path / "site")
    after = find(authority, "north")
    assert before is not None
    assert after is not None
    assert after.public_key == before.public_key
    assert after.node_id == "17"
    assert after.serial != before.serial
    accept_certificate(tmp_path / "site", document)


def test_a_revoked_site_comes_back_with_a_new_key_only(
    authority: Authority, tmp_path: Path
) -> None:
    admit(authority, tmp_path / "site")
    old = public_key(Identity(tmp_path / "site"))
    revoke(authority, "north")
    assert revoked_keys(authority) == {old}
    with pytest.raises(EchoFedError) as caught:
        admit(authority, tmp_path / "site")
    assert caught.value.code is Code.IDENTITY_MISMATCH
    admit(authority, tmp_path / "site2")
    assert [entry.status for entry in enrolments(authority)] == ["approved"]
    assert revoked_keys(authority) == {old}


def test_a_certificate_for_another_key_is_not_taken(authority: Authority, tmp_path: Path) -> None:
    document = admit(authority, tmp_path / "a", "north")
    admit(authority, tmp_path / "b", "south")
    with pytest.raises(EchoFedError) as caught:
        accept_certificate(tmp_path / "b", document)
    assert caught.value.code is Code.IDENTITY_MISMATCH


def test_a_certificate_of_another_centre_is_not_taken(authority: Authority, tmp_path: Path) -> None:
    other = create_authority(tmp_path / "other-ca", "test", now=NOW)
    admit(authority, tmp_path / "site")
    kit = invite(other, "north", address="x:1", federation="test", now=NOW)
    request = join(tmp_path / "copy", kit, now=NOW)
    _, document = approve(other, request, federation="test", now=NOW)
    with pytest.raises(EchoFedError) as caught:
        accept_certificate(tmp_path / "site", document)
    assert caught.value.code is Code.IDENTITY_MISMATCH


def test_a_folder_belongs_to_one_site(authority: Authority, tmp_path: Path) -> None:
    join(tmp_path / "site", kit_for(authority, "north"), now=NOW)
    with pytest.raises(EchoFedError) as caught:
        join(tmp_path / "site", kit_for(authority, "south"), now=NOW)
    assert caught.value.code is Code.IDENTITY_MISMATCH


def test_an_ended_certificate_has_its_own_code(authority: Authority, tmp_path: Path) -> None:
    accept_certificate(tmp_path / "site", admit(authority, tmp_path / "site"))
    with pytest.raises(EchoFedError) as caught:
        expect_certificate(Identity(tmp_path / "site"), now=NOW + timedelta(days=366))
    assert caught.value.code is Code.CERTIFICATE_EXPIRED


def test_secrets_are_for_the_owner_and_the_token_stays_nowhere(
    authority: Authority, tmp_path: Path
) -> None:
    kit = kit_for(authority)
    join(tmp_path / "site", kit, now=NOW)
    identity = Identity(tmp_path / "site")
    for key in (identity.node_key, identity.tls_key, authority.ca_key):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in kept if kit["token"].encode() in path.read_bytes()]


@pytest.mark.parametrize("site", ["", "North", "a/b", "../x", "a" * 33, "a b", "-a"])
def test_a_site_code_is_safe_in_file_and_node_names(authority: Authority, site: str) -> None:
    with pytest.raises(EchoFedError) as caught:
        kit_for(authority, site)
    assert caught.value.code is Code.CONFIG_INVALID


def test_the_server_certificate_is_renewed_in_time_and_for_new_hosts(authority: Authority) -> None:
    assert ensure_server_certificate(authority, ["centre.example"], now=NOW)
    assert not ensure_server_certificate(authority, ["centre.example"], now=NOW)
    near_end = NOW + SERVER_VALID - timedelta(days=20)
    assert ensure_server_certificate(authority, ["centre.example"], now=near_end)
    assert ensure_server_certificate(authority, ["10.0.0.7"], now=near_end)


def test_an_authority_is_never_overwritten(authority: Authority) -> None:
    with pytest.raises(EchoFedError) as caught:
        create_authority(authority.folder, "test", now=NOW)
    assert caught.value.code is Code.ALREADY_EXISTS
