"""Through the front a site reaches the fleet calls, under its own key, and nothing else."""

import base64
import http.client
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from cryptography.hazmat.primitives import serialization
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from aggregator.callers import admit_caller
from aggregator.enrolment import approve, invite, revoke
from aggregator.front import (
    FLEET_CALLS,
    OBJECT_LIMIT,
    PUBLIC_KEY_HEADER,
    SMALL_LIMIT,
    running_front,
)
from aggregator.superlink import SuperLink
from shared.errors import Code, EchoFedError
from shared.rpc.authority import Authority, create_authority, ensure_server_certificate
from site_client.federate import free_port
from site_client.identity import Identity, accept_certificate, join
from site_client.launch import client_context, probe


@dataclass
class Upstream:
    """A TLS server that stands where the SuperLink would and notes what comes through."""

    port: int
    seen: list[tuple[str, str, int]] = field(default_factory=list)


_OF: Any = {"address": "", "federation": "test", "now": datetime.now(UTC)}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    now = datetime.now(UTC)
    made = create_authority(tmp_path_factory.mktemp("centre") / "ca", "test", now=now)
    ensure_server_certificate(made, [], now=now)
    return made


@pytest.fixture(scope="module")
def upstream(authority: Authority) -> Iterator[Upstream]:
    found = Upstream(free_port())

    async def note(request: Request) -> Response:
        body = await request.body()
        found.seen.append((request.method, request.url.path, len(body)))
        return Response(body[:8] or b"well", headers={"x-kept": "yes"})

    server = uvicorn.Server(
        uvicorn.Config(
            Starlette(routes=[Route("/{rest:path}", note, methods=["GET", "POST"])]),
            host="127.0.0.1",
            port=found.port,
            log_config=None,
            lifespan="off",
            loop="asyncio",
            ws="none",
            ssl_certfile=str(authority.server_pem),
            ssl_keyfile=str(authority.server_key),
        )
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield found
    server.should_exit = True
    thread.join(5)


@pytest.fixture(scope="module")
def front(
    authority: Authority, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    link = SuperLink(tmp_path_factory.mktemp("superlink"), upstream.port, authority)
    with running_front(link, host="127.0.0.1", port=0) as port:
        yield f"127.0.0.1:{port}"


def enrol(
    authority: Authority, folder: Path, site: str, *, valid: timedelta = timedelta(days=9)
) -> Identity:
    now = datetime.now(UTC)
    kit = invite(authority, site, address="", federation="test", now=now)
    request = join(folder, kit, now=now)
    _, document = approve(authority, request, federation="test", now=now, valid=valid)
    accept_certificate(folder, document)
    return Identity(folder)


@pytest.fixture(scope="module")
def site(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return enrol(authority, tmp_path_factory.mktemp("site"), "north")


def claimed(identity: Identity) -> dict[str, str]:
    """The header with which Flower's client names its key."""
    key = serialization.load_pem_private_key(identity.tls_key.read_bytes(), None).public_key()
    pem = key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return {PUBLIC_KEY_HEADER: base64.b64encode(pem).decode()}


@pytest.fixture(scope="module")
def client(front: str, site: Identity) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=f"https://{front}", verify=client_context(site), headers=claimed(site)
    ) as opened:
        yield opened


@pytest.mark.parametrize("call", sorted(FLEET_CALLS))
def test_fleet_calls_pass_whole(client: httpx.Client, upstream: Upstream, call: str) -> None:
    answer = client.post(f"/v1/fleet/{call}", content=b"x" * 2000)
    assert (answer.status_code, answer.content, answer.headers["x-kept"]) == (200, b"x" * 8, "yes")
    assert upstream.seen[-1] == ("POST", f"/v1/fleet/{call}", 2000)


def test_health_passes(client: httpx.Client) -> None:
    assert client.get("/health").status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/control/start-run"),
        ("POST", "/v1/control/list-runs"),
        ("POST", "/v1/control/stop-run"),
        ("POST", "/v1/control/register-node"),
        ("POST", "/v1/control/list-nodes"),
        ("POST", "/v1/runtime/acquire-task"),
        ("POST", "/v1/fleet/register-node"),
        ("POST", "/v1/fleet/unregister-node"),
        ("GET", "/v1/fleet/pull-messages"),
        ("POST", "/v1/fleet/pull-messages/../../control/list-runs"),
        ("POST", "/v1/fleet/..%2fcontrol%2flist-runs"),
        ("POST", "//v1/control/list-runs"),
        ("POST", "/V1/FLEET/pull-messages"),
        ("POST", "/v1/fleet/pull-messages?next=/v1/control/list-runs"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
        ("GET", "/"),
        ("POST", "/health"),
    ],
)
def test_nothing_else_passes(
    front: str, site: Identity, upstream: Upstream, method: str, path: str
) -> None:
    before = len(upstream.seen)
    connection = http.client.HTTPSConnection(
        front, context=client_context(site)
    )  # sends paths as they are
    connection.request(method, path, body=b"", headers=claimed(site))
    status = connection.getresponse().status
    connection.close()
    assert status in {403, 404, 405}
    assert len(upstream.seen) == before


def test_a_stranger_without_certificate_is_refused(front: str, authority: Authority) -> None:
    context = ssl.create_default_context(cafile=str(authority.ca_pem))
    with pytest.raises(httpx.TransportError), httpx.Client(verify=context) as stranger:
        stranger.get(f"https://{front}/health")


def test_a_certificate_of_another_authority_is_refused(
    front: str, authority: Authority, tmp_path: Path
) -> None:
    other = create_authority(tmp_path / "ca", "other", now=datetime.now(UTC))
    identity = enrol(other, tmp_path / "site", "north")
    identity.ca.write_bytes(authority.ca_pem.read_bytes())
    with pytest.raises(EchoFedError) as caught:
        probe(identity, front)
    assert caught.value.code is Code.NODE_REFUSED


def test_an_ended_certificate_is_refused(front: str, authority: Authority, tmp_path: Path) -> None:
    identity = enrol(authority, tmp_path, "late", valid=timedelta(seconds=-1))
    with pytest.raises(EchoFedError) as caught:
        probe(identity, front)
    assert caught.value.code is Code.NODE_REFUSED


def test_a_certificate_that_is_no_sites_is_refused(
    front: str, authority: Authority, site: Identity, tmp_path: Path
) -> None:
    request = join(tmp_path, invite(authority, "ito", **_OF), now=_OF["now"])
    _, certificate = admit_caller(
        authority, request["request"].encode(), "ito", role="auditor", now=_OF["now"]
    )
    auditor = Identity(tmp_path)
    auditor.certificate.write_bytes(certificate)
    with httpx.Client(
        base_url=f"https://{front}", verify=client_context(auditor), headers=claimed(auditor)
    ) as opened:
        assert opened.get("/health").status_code == 403
        assert opened.post("/v1/fleet/pull-messages").status_code == 403


def test_a_site_cannot_speak_under_another_key(
    front: str, client: httpx.Client, authority: Authority, tmp_path: Path
) -> None:
    other = enrol(authority, tmp_path, "south")
    answer = client.post("/v1/fleet/pull-messages", content=b"", headers=claimed(other))
    assert answer.status_code == 403
    assert (
        client.post("/v1/fleet/pull-messages", headers={PUBLIC_KEY_HEADER: ""}).status_code == 403
    )


def test_a_revoked_site_is_refused_at_once(
    front: str, authority: Authority, tmp_path: Path
) -> None:
    identity = enrol(authority, tmp_path, "gone")
    probe(identity, front)
    revoke(authority, "gone")
    with pytest.raises(EchoFedError) as caught:
        probe(identity, front)
    assert caught.value.code is Code.NODE_REFUSED


def test_a_body_over_the_limit_is_refused_whether_declared_or_not(
    client: httpx.Client, upstream: Upstream
) -> None:
    def stream() -> Iterator[bytes]:
        for _ in range(SMALL_LIMIT // 65536 + 1):
            yield b"\0" * 65536

    before = len(upstream.seen)
    declared = client.post("/v1/fleet/push-object", content=b"\0" * (OBJECT_LIMIT + 1))
    chunked = client.post("/v1/fleet/push-messages", content=stream())
    assert (declared.status_code, chunked.status_code) == (413, 413)
    assert len(upstream.seen) == before


def test_an_object_of_a_chunk_passes(client: httpx.Client, upstream: Upstream) -> None:
    size = 5 * 1024 * 1024 + 4096
    assert client.post("/v1/fleet/push-object", content=b"\1" * size).status_code == 200
    assert upstream.seen[-1][2] == size


def test_a_silent_superlink_is_a_passing_trouble(
    authority: Authority, site: Identity, tmp_path: Path
) -> None:
    link = SuperLink(tmp_path, free_port(), authority)
    with (
        running_front(link, host="127.0.0.1", port=0) as port,
        pytest.raises(EchoFedError) as caught,
    ):
        probe(site, f"127.0.0.1:{port}")
    assert caught.value.code is Code.CENTRE_UNREACHABLE


def test_a_silent_front_is_unreachable(site: Identity) -> None:
    with pytest.raises(EchoFedError) as caught:
        probe(site, f"127.0.0.1:{free_port()}")
    assert caught.value.code is Code.CENTRE_UNREACHABLE
