"""Keys and certificates that are missing, open, damaged, foreign or ended are found."""

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from shared.errors import Code, EchoFedError
from shared.rpc.authority import SERVER_VALID, Authority, create_authority
from site_client.archive.tls import TlsFiles
from site_client.doctor import certificate, clock, keys, receiver
from site_client.doctor.finding import Premises

Look = Callable[..., list[tuple[str, str]]]


def in_federation(premises: Premises) -> Premises:
    return replace(premises, address="centre.invalid:9092")


def test_a_standalone_site_needs_its_pseudonym_key_only(premises: Premises, faults: Look) -> None:
    assert faults(keys.check, premises) == []
    assert faults(certificate.check, premises) == []


def test_an_enrolled_site_is_fine(premises: Premises, enrol: Any, faults: Look) -> None:
    enrol(premises)
    for look in (keys.check, certificate.check, clock.check):
        assert faults(look, in_federation(premises)) == []


def test_the_receiver_s_certificate_must_open_and_last(
    premises: Premises, authority: Authority, faults: Look
) -> None:
    assert faults(receiver.check, premises) == []
    files = TlsFiles(authority.server_pem, authority.server_key, authority.ca_pem)
    secured = replace(premises, receiver=files)
    assert faults(receiver.check, secured) == []
    later = replace(secured, now=premises.now + SERVER_VALID - timedelta(days=9))
    assert faults(receiver.check, later) == [("warning", "")]
    ended = replace(secured, now=premises.now + SERVER_VALID + timedelta(days=9))
    assert faults(receiver.check, ended) == [("fault", "CERTIFICATE_EXPIRED")]


@pytest.mark.parametrize("name", ["pseudonym.key", "node.key", "tls.key"])
def test_a_key_that_others_may_read_is_a_fault(
    premises: Premises, enrol: Any, faults: Look, name: str
) -> None:
    enrol(premises)
    os.chmod(premises.store.identity_folder / name, 0o640)
    assert faults(keys.check, in_federation(premises)) == [("fault", "CONFIG_INVALID")]


def test_an_open_folder_of_closed_keys_is_a_warning(premises: Premises, faults: Look) -> None:
    os.chmod(premises.store.identity_folder, 0o755)
    assert faults(keys.check, premises) == [("warning", "")]


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("pseudonym.key", "abc", "CHECKPOINT_CORRUPT"),
        ("pseudonym.key", "zz" * 32, "CHECKPOINT_CORRUPT"),
        ("tls.key", "-----BEGIN", "CHECKPOINT_CORRUPT"),
        ("node.key", None, "CONFIG_MISSING"),
    ],
)
def test_a_damaged_or_missing_key_is_a_fault(
    premises: Premises, enrol: Any, faults: Look, name: str, content: str | None, code: str
) -> None:
    path: Path = enrol(premises).folder / name
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    assert ("fault", code) in faults(keys.check, in_federation(premises))


def test_a_site_without_its_pseudonym_key_cannot_go_on(premises: Premises) -> None:
    (premises.store.identity_folder / "pseudonym.key").unlink()
    with pytest.raises(EchoFedError) as caught:
        list(keys.check(premises))
    assert caught.value.code is Code.CONFIG_MISSING


def test_two_keys_in_one_identity_are_a_fault(
    premises: Premises, enrol: Any, faults: Look, tmp_path: Path
) -> None:
    identity = enrol(premises)
    other = replace(premises, store=type(premises.store)(tmp_path / "other"))
    identity.node_key.write_bytes(enrol(other).node_key.read_bytes())
    assert faults(keys.check, in_federation(premises)) == [("fault", "IDENTITY_MISMATCH")]


@pytest.mark.parametrize(("days", "expected"), [(80, [("warning", "")]), (5, [])])
def test_a_certificate_is_told_of_thirty_days_before_its_end(
    premises: Premises, enrol: Any, faults: Look, days: int, expected: list[tuple[str, str]]
) -> None:
    enrol(premises)
    later = replace(in_federation(premises), now=premises.now + timedelta(days=days))
    assert faults(certificate.check, later) == expected


@pytest.mark.parametrize("days", [91, -1])
def test_an_ended_or_not_yet_valid_certificate_is_a_fault(
    premises: Premises, enrol: Any, days: int
) -> None:
    enrol(premises)
    with pytest.raises(EchoFedError) as caught:
        list(
            certificate.check(
                replace(in_federation(premises), now=datetime.now(UTC) + timedelta(days=days))
            )
        )
    assert caught.value.code is Code.CERTIFICATE_EXPIRED


def test_a_certificate_of_another_centre_or_key_is_a_fault(
    premises: Premises, enrol: Any, faults: Look, tmp_path: Path
) -> None:
    identity = enrol(premises)
    ours = identity.ca.read_bytes()
    other = create_authority(tmp_path / "ca", "other", now=datetime.now(UTC))
    identity.ca.write_bytes(other.ca_pem.read_bytes())
    assert faults(certificate.check, in_federation(premises)) == [("fault", "IDENTITY_MISMATCH")]
    identity.ca.write_bytes(ours)
    elsewhere = replace(premises, store=type(premises.store)(tmp_path / "other"))
    identity.tls_key.write_bytes(enrol(elsewhere).tls_key.read_bytes())
    assert faults(certificate.check, in_federation(premises)) == [("fault", "IDENTITY_MISMATCH")]


def test_a_damaged_certificate_is_a_fault(premises: Premises, enrol: Any, faults: Look) -> None:
    enrol(premises).certificate.write_text("-----BEGIN CERTIFICATE-----")
    assert faults(certificate.check, in_federation(premises)) == [("fault", "CHECKPOINT_CORRUPT")]


def test_a_clock_before_what_is_on_record_is_a_fault(
    premises: Premises, enrol: Any, faults: Look
) -> None:
    yesterday = replace(premises, now=premises.now - timedelta(days=1))
    assert faults(clock.check, yesterday) == [("fault", "CONFIG_INVALID")]
    enrol(premises)
    premises.store.ledger_path.unlink()
    assert faults(clock.check, yesterday) == [("fault", "CERTIFICATE_EXPIRED")]
