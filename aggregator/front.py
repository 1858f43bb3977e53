"""The TLS front: the only port that sites reach; it leads to the fleet paths and nowhere else.

Flower serves operators, sites and apps on one port, so whoever reaches that port can start runs and
register nodes. The SuperLink therefore stays on loopback and this reverse proxy stands before it. A
connection needs a certificate of the centre's own authority; the key in Flower's signed headers
must be the certificate's key and must not be revoked.
"""

import asyncio
import base64
import binascii
import logging
import ssl
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from aggregator.enrolment import revoked_keys
from aggregator.superlink import SuperLink
from shared.errors import Code, EchoFedError
from shared.rpc.authority import Authority
from shared.rpc.peer import peer_named_in

log = logging.getLogger(__name__)

KIB, MIB = 1024, 1024 * 1024
OBJECT_LIMIT = 16 * MIB  # Flower cuts arrays into chunks of 5 MiB
SMALL_LIMIT = 4 * MIB  # messages without content, heartbeats, object trees
FLEET_CALLS = {
    "activate-node": SMALL_LIMIT,
    "deactivate-node": SMALL_LIMIT,
    "send-node-heartbeat": SMALL_LIMIT,
    "pull-messages": SMALL_LIMIT,
    "push-messages": SMALL_LIMIT,
    "get-run": SMALL_LIMIT,
    "get-fab": SMALL_LIMIT,
    "push-object": OBJECT_LIMIT,
    "pull-object": SMALL_LIMIT,
    "confirm-message-received": SMALL_LIMIT,
}
"""Fleet calls that pass, and the largest body of each; registering nodes is not among them."""
PUBLIC_KEY_HEADER = "flwr-public-key"
START_TIMEOUT_S = 30.0
UPSTREAM_TIMEOUT = httpx.Timeout(30.0, read=120.0)
_PEER = "echofed.peer"
_HOP_BY_HOP = {
    *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer"),
    *("transfer-encoding", "upgrade", "host", "forwarded", "x-forwarded-for", "x-forwarded-host"),
    *("x-forwarded-proto", "x-real-ip", "expect"),
}


class PeerProtocol(H11Protocol):
    """Uvicorn's HTTP protocol that also tells the app which certificate opened the connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        channel = transport.get_extra_info("ssl_object")
        peer = channel.getpeercert(binary_form=True) if channel else None
        inner: ASGIApp = self.app

        async def with_peer(scope: Scope, receive: Receive, send: Send) -> None:
            await inner({**scope, _PEER: peer}, receive, send)

        self.app = with_peer


class BodyTooLargeError(Exception):
    """A request's body grew beyond what its call may carry."""


@dataclass(frozen=True, slots=True)
class Admission:
    """Who may pass: the holder of an unrevoked key, and only under that key's name."""

    authority: Authority

    def refusal(self, peer: bytes | None, claimed_key: str | None) -> str:
        """Why a request is refused, or an empty text."""
        if peer is None:
            return "no certificate"
        certificate = x509.load_der_x509_certificate(peer)
        key = certificate.public_key()
        line = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        if line.decode() in revoked_keys(self.authority):
            return "revoked"
        if not _is_a_sites(certificate):
            return "the certificate is no site's"
        pem = key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        if claimed_key is not None and _decode(claimed_key) != pem:
            return "the signed headers name another key than the certificate"
        return ""


def build_front(link: SuperLink) -> Starlette:
    """The reverse proxy as an ASGI app.

    Args:
        link: the SuperLink behind it.
    """
    context = ssl.create_default_context(cafile=str(link.authority.ca_pem))
    client = httpx.AsyncClient(
        base_url=f"https://{link.address}",
        verify=context,
        timeout=UPSTREAM_TIMEOUT,
        limits=httpx.Limits(max_connections=256, max_keepalive_connections=64),
        follow_redirects=False,
        trust_env=False,
    )
    admission = Admission(link.authority)

    async def fleet(request: Request) -> Response:
        call = request.path_params["call"]
        if call not in FLEET_CALLS or request.url.query:
            return PlainTextResponse("not open to sites", status_code=403)
        claimed = request.headers.get(PUBLIC_KEY_HEADER, "")
        if reason := admission.refusal(request.scope.get(_PEER), claimed):
            log.warning("refused %s: %s", call, reason)
            return PlainTextResponse("refused", status_code=403)
        return await forward(client, request, f"/v1/fleet/{call}", limit=FLEET_CALLS[call])

    async def health(request: Request) -> Response:
        if reason := admission.refusal(request.scope.get(_PEER), None):
            log.warning("refused health: %s", reason)
            return PlainTextResponse("refused", status_code=403)
        return await forward(client, request, "/health", limit=0)

    async def elsewhere(request: Request) -> Response:
        log.warning("refused %s %s", request.method, request.url.path[:80])
        return PlainTextResponse("not open to sites", status_code=403)

    @asynccontextmanager
    async def closing(app: Starlette) -> AsyncIterator[None]:
        async with client:
            yield

    return Starlette(
        lifespan=closing,
        routes=[
            Route("/v1/fleet/{call}", fleet, methods=["POST"]),
            Route("/health", health, methods=["GET"]),
            Route(
                "/{rest:path}",
                elsewhere,
                methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"],
            ),
        ],
    )


async def forward(
    client: httpx.AsyncClient, request: Request, path: str, *, limit: int
) -> Response:
    """Pass a request on and stream the answer back, holding neither body in memory.

    Args:
        client: connection to the SuperLink.
        request: the site's request.
        path: path at the SuperLink.
        limit: largest body in bytes.
    """
    declared = request.headers.get("content-length", "0")
    if not declared.isdigit() or int(declared) > limit:
        return PlainTextResponse("body too large", status_code=413)
    headers = [(name, value) for name, value in request.headers.items() if name not in _HOP_BY_HOP]
    body = limited(request, limit) if limit else None
    outgoing = client.build_request(request.method, path, headers=headers, content=body)
    try:
        answer = await client.send(outgoing, stream=True)
    except BodyTooLargeError:
        return PlainTextResponse("body too large", status_code=413)
    except ClientDisconnect:
        return PlainTextResponse("gone", status_code=400)
    except httpx.TransportError as error:
        log.warning("the SuperLink does not answer: %s", type(error).__name__)
        return PlainTextResponse("the centre is starting", status_code=503)
    back = {name: value for name, value in answer.headers.items() if name not in _HOP_BY_HOP}
    return StreamingResponse(passed_on(answer), status_code=answer.status_code, headers=back)


async def limited(request: Request, limit: int) -> AsyncIterator[bytes]:
    """The chunks of a request's body, up to the limit."""
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise BodyTooLargeError
        yield chunk


async def passed_on(answer: httpx.Response) -> AsyncIterator[bytes]:
    """The chunks of an answer; its connection is released after the last one."""
    try:
        async for chunk in answer.aiter_raw():
            yield chunk
    finally:
        await answer.aclose()


@contextmanager
def running_front(link: SuperLink, *, host: str, port: int) -> Iterator[int]:
    """Hold the front in a thread of this process.

    Args:
        link: the SuperLink behind it.
        host: address to listen on.
        port: port to listen on; 0 takes a free one.

    Yields:
        The port.

    Raises:
        EchoFedError: CENTRE_UNREACHABLE where the port is taken.
    """
    server = uvicorn.Server(
        uvicorn.Config(
            build_front(link),
            host=host,
            port=port,
            http=PeerProtocol,
            ws="none",
            loop="asyncio",
            proxy_headers=False,  # nobody before this door is believed about the sender
            server_header=False,
            access_log=False,
            log_config=None,
            ssl_certfile=str(link.authority.server_pem),
            ssl_keyfile=str(link.authority.server_key),
            ssl_ca_certs=str(link.authority.ca_pem),
            ssl_cert_reqs=ssl.CERT_REQUIRED,
            limit_concurrency=512,
            timeout_graceful_shutdown=5,
        )
    )
    thread = threading.Thread(target=_serve, args=(server,), name="front", daemon=True)
    thread.start()
    try:
        yield _await_port(server, thread, port)
    finally:
        server.should_exit = True
        thread.join(10.0)


def _serve(server: uvicorn.Server) -> None:
    try:
        server.run()
    except (
        SystemExit
    ):  # uvicorn's way of saying that the port is taken; the waiting side reports it
        return


def _await_port(server: uvicorn.Server, thread: threading.Thread, port: int) -> int:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not server.started and thread.is_alive() and time.monotonic() < deadline:
        time.sleep(0.02)
    if not server.started:
        raise EchoFedError(
            Code.CENTRE_UNREACHABLE,
            f"the front did not start on port {port}",
            "free the port or choose another",
        )
    sockets: list[Any] = [entry for listener in server.servers for entry in listener.sockets]
    return int(sockets[0].getsockname()[1])


def _is_a_sites(certificate: x509.Certificate) -> bool:
    try:
        return peer_named_in(certificate).role == "site"
    except EchoFedError:
        return False


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""
