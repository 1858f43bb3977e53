"""Operators and auditors come in with keys of their own, and go out at once."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from typer.testing import CliRunner

from aggregator.callers import CallerRole, admit_caller, callers
from aggregator.centre import Centre, open_centre
from aggregator.cli import build_app
from aggregator.enrolment import approve, invite, revoked_keys
from aggregator.hosting import SERVING, running_services
from shared.errors import Code, EchoFedError
from shared.files import sha256_hex
from shared.rpc.authority import create_authority, ensure_server_certificate, write_private_key
from shared.rpc.channel import Channel, open_channel
from shared.rpc.peer import Credentials, Peer, peer_named_in
from shared.services.models import fetch_model
from site_client.identity import join

NOW = datetime.now(UTC)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "centre" / "aggregator.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump({"services": {"port": 0}}))
    made = open_centre(path)
    create_authority(made.authority.folder, "test", now=NOW)
    ensure_server_certificate(made.authority, [], now=NOW)
    made.state.close()
    return path


@pytest.fixture
def centre(config: Path) -> Iterator[Centre]:
    opened = open_centre(config)
    yield opened
    opened.state.close()


def request_of(folder: Path, name: str, *, curve: ec.EllipticCurve | None = None) -> Path:
    """Key and request, as openssl writes them for their owner."""
    key = ec.generate_private_key(curve or ec.SECP384R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "north.site")])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA384())
    write_private_key(folder / f"{name}.key", key)
    (folder / f"{name}.csr").write_bytes(csr.public_bytes(serialization.Encoding.PEM))
    return folder / f"{name}.csr"


def enrol(config: Path, *words: object) -> dict[str, str]:
    arguments = ["enrol", *map(str, words), "--json", "--config", str(config)]
    arguments += ["--out", str(config.parent.parent)]
    result = CliRunner().invoke(build_app(), arguments)
    if result.exception is not None and isinstance(result.exception, EchoFedError):
        raise result.exception
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert isinstance(document, dict)
    return document


def code_of(channel: Channel, ca_pem: bytes) -> Code:
    with pytest.raises(EchoFedError) as refused:
        fetch_model(channel, SERVING, ca_pem=ca_pem, limit_bytes=100)
    return refused.value.code


@pytest.mark.parametrize(
    ("role", "answer"), [("operator", Code.MODEL_UNKNOWN), ("auditor", Code.ROLE_REFUSED)]
)
def test_a_caller_reaches_what_its_role_may_until_it_is_revoked(
    config: Path, centre: Centre, tmp_path: Path, role: CallerRole, answer: Code
) -> None:
    told = enrol(config, "lee", "--role", role, "--approve", request_of(tmp_path, "lee"))
    certificate = Path(told["certificate"])
    key = serialization.load_pem_private_key((tmp_path / "lee.key").read_bytes(), None)
    spki = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert told["key"] == sha256_hex(key.public_key().public_bytes(*spki))
    shown = x509.load_pem_x509_certificate(certificate.read_bytes())
    assert peer_named_in(shown) == Peer("lee", role)
    credentials = Credentials(Path(told["ca"]), certificate, tmp_path / "lee.key")
    ca_pem = credentials.ca.read_bytes()
    with (
        running_services(centre, ["models"], host="127.0.0.1") as port,
        open_channel(f"127.0.0.1:{port}", credentials) as channel,
    ):
        assert code_of(channel, ca_pem) is answer
        enrol(config, "--role", role, "--revoke", "lee")
        assert code_of(channel, ca_pem) is Code.NODE_REFUSED
    kinds = [(entry.kind, entry.body["caller"]) for entry in centre.ledger.entries()]
    assert kinds == [("caller.admitted", "lee"), ("caller.revoked", "lee")]
    assert "PRIVATE" not in "".join(
        path.read_text() for path in (centre.authority.folder / "callers").rglob("*.json")
    )


def refusal(centre: Centre, csr: Path, name: str, role: CallerRole = "operator") -> Code:
    with pytest.raises(EchoFedError) as caught:
        admit_caller(centre.authority, csr.read_bytes(), name, role=role, now=NOW)
    return caught.value.code


def test_one_key_is_one_callers_alone_and_never_comes_back(
    config: Path, centre: Centre, tmp_path: Path
) -> None:
    csr = request_of(tmp_path, "lee")
    first, _ = admit_caller(centre.authority, csr.read_bytes(), "lee", role="operator", now=NOW)
    later = NOW + timedelta(days=1)
    again, _ = admit_caller(centre.authority, csr.read_bytes(), "lee", role="operator", now=later)
    assert (again.public_key, again.expires > first.expires) == (first.public_key, True)
    assert refusal(centre, csr, "lee", "auditor") is Code.IDENTITY_MISMATCH
    assert refusal(centre, csr, "bo") is Code.IDENTITY_MISMATCH
    other = request_of(tmp_path, "other")
    assert refusal(centre, other, "lee") is Code.IDENTITY_MISMATCH
    enrol(config, "--role", "operator", "--revoke", "lee")
    assert revoked_keys(centre.authority) == {first.public_key}
    assert refusal(centre, csr, "lee") is Code.IDENTITY_MISMATCH
    admit_caller(centre.authority, other.read_bytes(), "lee", role="operator", now=NOW)
    assert [(one.name, one.status) for one in callers(centre.authority)] == [("lee", "approved")]


def test_a_sites_key_calls_as_nobody_else(centre: Centre, tmp_path: Path) -> None:
    kit = invite(centre.authority, "north", address="", federation="test", now=NOW)
    request = join(tmp_path / "north", kit, now=NOW)
    approve(centre.authority, request, federation="test", now=NOW)
    (tmp_path / "north.csr").write_text(request["request"])
    assert refusal(centre, tmp_path / "north.csr", "north") is Code.IDENTITY_MISMATCH


def test_a_bad_request_or_name_is_refused(centre: Centre, tmp_path: Path) -> None:
    weak = request_of(tmp_path, "weak", curve=ec.SECP256R1())
    assert refusal(centre, weak, "lee") is Code.WIRE_INVALID
    assert refusal(centre, request_of(tmp_path, "lee"), "../lee") is Code.CONFIG_INVALID
    assert callers(centre.authority) == ()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["lee", "--role", "auditor"], Code.CONFIG_INVALID),
        (["--role", "auditor", "--approve", "x.csr"], Code.CONFIG_INVALID),
        (["lee", "--role", "auditor", "--approve", "x.csr"], Code.CONFIG_MISSING),
        (["--role", "auditor", "--revoke", "nobody"], Code.NAME_UNKNOWN),
    ],
)
def test_a_mistake_ends_in_its_code(config: Path, words: list[str], code: Code) -> None:
    with pytest.raises(EchoFedError) as caught:
        enrol(config, *words)
    assert caught.value.code is code
