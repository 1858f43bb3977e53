"""Credentials stay out of messages, and a private authority must be named."""

import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from shared.errors import Code, EchoFedError
from site_client.archive.access import PASSWORD, TOKEN, USER, open_client, read_credentials
from site_client.archive.dicomweb import DicomWeb

SECRET = "hush-hush"


def refusal(call: Callable[[], object]) -> Code:
    with pytest.raises(EchoFedError) as caught:
        call()
    assert SECRET not in str(caught.value)
    return caught.value.code


def authorization(**values: str) -> str:
    with open_client("https://pacs.example", values) as client:
        return client.headers.get("Authorization", "")


def test_basic_and_bearer_are_sent_as_they_should_be() -> None:
    assert authorization(**{USER: "Aladdin", PASSWORD: "open sesame"}) == (
        "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="  # RFC 7617, section 2
    )
    assert authorization(**{TOKEN: SECRET}) == f"Bearer {SECRET}"
    assert authorization() == ""


@pytest.mark.parametrize(
    "values",
    [
        {USER: "reader"},
        {PASSWORD: SECRET},
        {USER: "reader", PASSWORD: SECRET, TOKEN: SECRET},
        {USER: "a:b", PASSWORD: SECRET},
        {TOKEN: f"{SECRET}\r\nX: y"},
    ],
)
def test_credentials_that_cannot_work_are_refused(values: dict[str, str]) -> None:
    assert refusal(lambda: authorization(**values)) is Code.CONFIG_INVALID


@pytest.mark.parametrize(
    "address",
    [
        f"https://reader:{SECRET}@pacs.example/dicom-web",
        f"ftp://pacs.example/{SECRET}",
        f"https://pacs.example/?token={SECRET}",
        "pacs.example",
        "https://",
        "https://pacs.example:port",
    ],
)
def test_addresses_are_plain_web_addresses(address: str) -> None:
    assert refusal(lambda: open_client(address, {})) is Code.CONFIG_INVALID


def test_a_credentials_file_must_be_private_and_clear(tmp_path: Path) -> None:
    path = tmp_path / "pacs.credentials"
    assert refusal(lambda: read_credentials(path, {})) is Code.CONFIG_MISSING
    path.write_text(f"# the reading account\n{USER}=reader\n{PASSWORD}={SECRET}=1\n")
    path.chmod(0o640)
    assert refusal(lambda: read_credentials(path, {})) is Code.CONFIG_INVALID
    path.chmod(0o600)
    assert read_credentials(path, {}) == {USER: "reader", PASSWORD: f"{SECRET}=1"}
    assert refusal(lambda: read_credentials(path, {TOKEN: SECRET})) is Code.CONFIG_INVALID
    path.write_text(f"{SECRET}\n")
    assert refusal(lambda: read_credentials(path, {})) is Code.CONFIG_INVALID
    assert read_credentials(None, {TOKEN: SECRET, "HOME": "/"}) == {TOKEN: SECRET}


class _Empty(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def private_archive(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """An archive with a certificate of its own making: its address and the certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pacs")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = tmp_path / "ca.pem", tmp_path / "key.pem"
    public.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    plain = serialization.NoEncryption()
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    with HTTPServer(("127.0.0.1", 0), _Empty) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"https://127.0.0.1:{server.server_port}", public
        server.shutdown()
        thread.join()


def test_a_private_authority_is_believed_only_when_named(
    private_archive: tuple[str, Path], tmp_path: Path
) -> None:
    address, authority = private_archive
    with open_client(address, {}, authority=authority) as client:
        assert list(DicomWeb(client, per_second=1000).studies(modality="US")) == []
    with open_client(address, {}) as client:
        stranger = DicomWeb(client, per_second=1000)
        assert refusal(lambda: list(stranger.studies(modality="US"))) is Code.ARCHIVE_REFUSED
    missing = tmp_path / "missing.pem"
    assert refusal(lambda: open_client(address, {}, authority=missing)) is Code.CONFIG_MISSING
    missing.write_text("no certificate")
    assert refusal(lambda: open_client(address, {}, authority=missing)) is Code.CONFIG_INVALID
