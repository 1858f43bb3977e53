"""C-STORE over TLS on loopback: who shows no certificate, or none that counts, is not let in."""

import gc
import os
import shutil
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.filebase import DicomBytesIO
from pynetdicom.ae import ApplicationEntity
from pynetdicom.sop_class import UltrasoundMultiFrameImageStorage

from shared.errors import Code, EchoFedError
from shared.rpc.authority import Authority
from shared.settings import build_settings
from shared.testing.dicom import build_dicom
from shared.testing.orthanc import SenderTls
from site_client.archive import tls as module
from site_client.archive.inbox import Inbox
from site_client.archive.receive import receiving
from site_client.archive.tls import ReceiverContext, TlsFiles, open_tls
from site_client.commands.options import receiver_tls
from site_client.settings import ReceiveSettings, SiteSettings

# pynetdicom leaves a socket that the other end closed first to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
DATA = build_dicom(np.zeros((1, 8, 8), np.uint8))


@pytest.fixture(autouse=True)
def leave_no_socket() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    folder = tmp_path / "inbox"
    folder.mkdir(mode=0o700)
    return Inbox(folder, b"key")


def of(authority: Authority, *, senders: bool) -> ReceiverContext:
    asked = authority.ca_pem if senders else None
    return open_tls(TlsFiles(authority.server_pem, authority.server_key, asked))


def send(port: int, context: ssl.SSLContext | None, title: str = "PACS") -> bool:
    """Call and store one file; whether it was taken."""
    entity = ApplicationEntity(ae_title=title)
    entity.add_requested_context(UltrasoundMultiFrameImageStorage, "1.2.840.10008.1.2.1")
    secured = (context, "localhost") if context else None
    association = entity.associate("127.0.0.1", port, ae_title="ECHOFED", tls_args=secured)
    if not association.is_established:
        return False
    status = association.send_c_store(dcmread(DicomBytesIO(DATA)))
    association.release()
    return bool(status.get("Status", 1) == 0)


def caller(authority: Authority, own: SenderTls | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.ca_pem)
    if own is not None:
        context.load_cert_chain(own.certificate, own.key)
    return context


def test_what_is_sent_encrypted_arrives(inbox: Inbox, authority: Authority) -> None:
    context = of(authority, senders=False)
    with receiving(inbox, title="ECHOFED", host="127.0.0.1", port=0, tls=context) as receiver:
        assert send(receiver.port, caller(authority))
        assert not send(receiver.port, None)
    assert receiver.received == 1


def test_senders_show_a_certificate_where_the_site_asks(
    inbox: Inbox, authority: Authority, sender: SenderTls
) -> None:
    context = of(authority, senders=True)
    with receiving(
        inbox, title="ECHOFED", host="127.0.0.1", port=0, allow=["PACS"], tls=context
    ) as receiver:
        assert not send(receiver.port, caller(authority))
        assert not send(receiver.port, caller(authority, sender), title="STRANGER")
        assert send(receiver.port, caller(authority, sender))
    assert receiver.received == 1


def test_a_silent_caller_does_not_keep_others_out(
    inbox: Inbox, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_HANDSHAKE_S", 0.2)
    context = of(authority, senders=False)
    with (
        receiving(inbox, title="ECHOFED", host="127.0.0.1", port=0, tls=context) as receiver,
        socket.create_connection(("127.0.0.1", receiver.port)),
    ):
        assert send(receiver.port, caller(authority))


def test_a_key_that_others_read_or_that_is_no_key_is_refused(
    authority: Authority, tmp_path: Path
) -> None:
    key = tmp_path / "key.pem"
    shutil.copy(authority.server_key, key)
    os.chmod(key, 0o640)
    shutil.copy(authority.ca_pem, tmp_path / "no-key.pem")
    os.chmod(tmp_path / "no-key.pem", 0o600)
    codes = []
    for name in ("key.pem", "no-key.pem", "none.pem"):
        with pytest.raises(EchoFedError) as caught:
            open_tls(TlsFiles(authority.server_pem, tmp_path / name, None))
        codes.append(caught.value.code)
    assert codes == [Code.CONFIG_INVALID, Code.CONFIG_INVALID, Code.CONFIG_MISSING]


@pytest.mark.parametrize("given", [{"certificate": "a.pem"}, {"senders": "ca.pem"}])
def test_settings_that_make_no_tls_are_refused(given: dict[str, str]) -> None:
    with pytest.raises(EchoFedError, match="receive") as caught:
        build_settings(SiteSettings, {"site": "north", "receive": given})
    assert caught.value.code is Code.CONFIG_INVALID


def test_files_are_named_relative_to_the_settings(tmp_path: Path) -> None:
    named = ReceiveSettings(certificate=Path("tls/a.pem"), key=Path("/etc/a.key"))
    found = receiver_tls(named, tmp_path / "site.yaml")
    assert found == TlsFiles(tmp_path / "tls" / "a.pem", Path("/etc/a.key"), None)
    assert receiver_tls(ReceiveSettings(), tmp_path / "site.yaml") is None
