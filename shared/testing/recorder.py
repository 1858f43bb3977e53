"""A recorder between a site's node and the front: it ends TLS and keeps every body that leaves.

It stands in the tests and in the demo only. What it keeps is decoded down to the records of each
message, so that a test can hold them against what was declared and against the pictures that must
not leave.
"""

import ssl
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.proto import fleet_pb2, heartbeat_pb2, message_pb2, run_pb2
from flwr.proto.fab_pb2 import GetFabRequest
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_PUSH_OBJECT = "/v1/fleet/push-object"
_PUSH_MESSAGES = "/v1/fleet/push-messages"
_REQUESTS: dict[str, Any] = {
    "/v1/fleet/activate-node": fleet_pb2.ActivateNodeRequest,
    "/v1/fleet/deactivate-node": fleet_pb2.DeactivateNodeRequest,
    "/v1/fleet/send-node-heartbeat": heartbeat_pb2.SendNodeHeartbeatRequest,
    "/v1/fleet/pull-messages": fleet_pb2.PullMessagesRequest,
    _PUSH_MESSAGES: fleet_pb2.PushMessagesRequest,
    "/v1/fleet/get-run": run_pb2.GetRunRequest,
    "/v1/fleet/get-fab": GetFabRequest,
    _PUSH_OBJECT: message_pb2.PushObjectRequest,
    "/v1/fleet/pull-object": message_pb2.PullObjectRequest,
    "/v1/fleet/confirm-message-received": message_pb2.ConfirmMessageReceivedRequest,
}
_HOP_BY_HOP = {
    "host",
    "connection",
    "transfer-encoding",
    "content-length",
    "content-encoding",
    "accept-encoding",
}


@dataclass(frozen=True, slots=True)
class SentBody:
    """One request of a site as it came out of TLS."""

    path: str
    body: bytes


@dataclass(frozen=True, slots=True)
class SentMessage:
    """One message that a site sent, decoded.

    Args:
        message_type: ``query.<action>`` and so on.
        error_code: Flower's error number, or None.
        error_text: text of that error; must be empty.
        configs: record name -> key -> value.
        arrays: record name -> array name -> bytes.
        metrics: record name -> key -> value.
    """

    message_type: str
    error_code: int | None = None
    error_text: str = ""
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    arrays: dict[str, dict[str, bytes]] = field(default_factory=dict)
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Crossing:
    """Where a recorder listens as the centre and calls on as the site."""

    ca: Path
    server_pem: Path
    server_key: Path
    site_pem: Path
    site_key: Path
    upstream: str


@contextmanager
def recording(route: Crossing, *, port: int) -> Iterator[list[SentBody]]:
    """Hold a recorder on a loopback port; the list grows with every request.

    Args:
        route: certificates and the address of the front.
        port: where the node connects.
    """
    bodies: list[SentBody] = []
    app = _app(route, bodies)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host="127.0.0.1",
            port=port,
            log_config=None,
            access_log=False,
            loop="asyncio",
            ws="none",
            ssl_certfile=str(route.server_pem),
            ssl_keyfile=str(route.server_key),
            ssl_ca_certs=str(route.ca),
            ssl_cert_reqs=ssl.CERT_REQUIRED,
            timeout_graceful_shutdown=2,
        )
    )
    thread = threading.Thread(target=server.run, name="recorder", daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.02)
    try:
        yield bodies
    finally:
        server.should_exit = True
        thread.join(5.0)


def decode(bodies: Sequence[SentBody]) -> list[SentMessage]:
    """Put together every message that left, from its announcement and the objects pushed after it.

    Raises:
        ValueError: for a request of unknown kind or with fields that Flower's schema does not
            declare; nothing may leave that this function cannot read.
    """
    contents: dict[str, bytes] = {}
    announced: list[Any] = []
    for sent in bodies:
        request = parse(sent)
        if sent.path == _PUSH_OBJECT:
            contents[request.object_id] = request.object_content
        elif sent.path == _PUSH_MESSAGES:
            announced.extend(request.messages_list)
    return [_message(found, contents) for found in announced]


def parse(sent: SentBody) -> Any:
    """Read one request by the schema of its path.

    Raises:
        ValueError: for an unknown path or undeclared fields.
    """
    if sent.path == "/health":
        return None
    kind = _REQUESTS.get(sent.path)
    if kind is None:
        raise ValueError(f"a site called {sent.path}")
    request = kind()
    request.ParseFromString(sent.body)
    known = kind()
    known.CopyFrom(request)
    known.DiscardUnknownFields()
    if known.SerializeToString(deterministic=True) != request.SerializeToString(deterministic=True):
        raise ValueError(f"undeclared fields in a body to {sent.path}")
    return request


def _message(announced: Any, contents: dict[str, bytes]) -> SentMessage:
    kind = announced.metadata.message_type
    message = inflate_object_from_contents(
        announced.metadata.message_id, contents, keep_object_contents=True
    )
    assert isinstance(message, Message)
    if message.has_error():
        return SentMessage(kind, message.error.code, message.error.reason or "")
    records = message.content
    return SentMessage(
        kind,
        configs={name: dict(one) for name, one in records.items() if isinstance(one, ConfigRecord)},
        arrays={
            name: {key: array.data for key, array in one.items()}
            for name, one in records.items()
            if isinstance(one, ArrayRecord)
        },
        metrics={name: dict(one) for name, one in records.items() if isinstance(one, MetricRecord)},
    )


def _app(route: Crossing, bodies: list[SentBody]) -> Starlette:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(str(route.ca))
    context.load_cert_chain(str(route.site_pem), str(route.site_key))
    client = httpx.AsyncClient(verify=context, timeout=60.0, trust_env=False)

    async def pass_on(request: Request) -> Response:
        body = await request.body()
        bodies.append(SentBody(request.url.path, body))
        headers = [(k, v) for k, v in request.headers.items() if k not in _HOP_BY_HOP]
        answer = await client.request(
            request.method,
            f"https://{route.upstream}{request.url.path}",
            headers=headers,
            content=body,
        )
        back = {k: v for k, v in answer.headers.items() if k not in _HOP_BY_HOP}
        return Response(answer.content, status_code=answer.status_code, headers=back)

    @asynccontextmanager
    async def closing(app: Starlette) -> AsyncIterator[None]:
        async with client:
            yield

    return Starlette(
        lifespan=closing,
        routes=[Route("/{rest:path}", pass_on, methods=["GET", "POST", "PUT", "DELETE"])],
    )
