"""The caller's end: mutual TLS, a deadline for every call, and errors as the service raised."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from shared.rpc.allocation import keep_freed_memory
from shared.rpc.codec import MIB
from shared.rpc.peer import Credentials
from shared.rpc.translate import error_of

DEADLINE_S = 60.0
MESSAGE_BYTES = 4 * MIB
PING_EVERY_S = 60  # keeps proxies from closing a quiet connection; servers take one in 30 s


class Channel:
    """A connection that stubs are built on."""

    def __init__(self, inner: Any, *, deadline_s: float) -> None:
        """Wrap gRPC's channel; a call's own ``timeout`` comes before the deadline given here."""
        self._inner = inner
        self._deadline_s = deadline_s

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Callable[..., Any]:
        """One message there, one back."""
        return self._single(self._inner.unary_unary(method, *args, **kwargs))

    def stream_unary(self, method: str, *args: Any, **kwargs: Any) -> Callable[..., Any]:
        """Messages there, one back."""
        return self._single(self._inner.stream_unary(method, *args, **kwargs))

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> Callable[..., Iterator[Any]]:
        """One message there, messages back."""
        return self._streamed(self._inner.unary_stream(method, *args, **kwargs))

    def stream_stream(self, method: str, *args: Any, **kwargs: Any) -> Callable[..., Iterator[Any]]:
        """Messages there, messages back."""
        return self._streamed(self._inner.stream_stream(method, *args, **kwargs))

    def _single(self, multicallable: Any) -> Callable[..., Any]:
        def call(request: Any, timeout: float | None = None) -> Any:
            with _told():
                return multicallable(request, timeout=timeout or self._deadline_s)

        return call

    def _streamed(self, multicallable: Any) -> Callable[..., Iterator[Any]]:
        def call(request: Any, timeout: float | None = None) -> Iterator[Any]:
            answers = multicallable(request, timeout=timeout or self._deadline_s)
            return _until_closed(answers)

        return call


@contextmanager
def open_channel(
    address: str, credentials: Credentials, *, deadline_s: float = DEADLINE_S
) -> Iterator[Channel]:
    """Open a connection; nothing is sent before the first call.

    Args:
        address: ``host:port``; the host must stand in the server's certificate.
        credentials: the caller's.
        deadline_s: of calls that name none.
    """
    keep_freed_memory()
    secured = grpc.ssl_channel_credentials(
        root_certificates=credentials.ca.read_bytes(),
        private_key=credentials.key.read_bytes(),
        certificate_chain=credentials.certificate.read_bytes(),
    )
    options = [
        ("grpc.max_receive_message_length", MESSAGE_BYTES),
        ("grpc.keepalive_time_ms", 1000 * PING_EVERY_S),
        ("grpc.enable_http_proxy", 0),  # the address is reached as written
    ]
    with grpc.secure_channel(address, secured, options) as inner:
        yield Channel(inner, deadline_s=deadline_s)


def is_serving(channel: Channel, service: str) -> bool:
    """Whether the other end says that a service, by its full name, takes calls.

    Raises:
        EchoFedError: CENTRE_UNREACHABLE, NODE_REFUSED.
    """
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    asked = health_pb2.HealthCheckRequest(service=service)
    state = health_pb2_grpc.HealthStub(channel).Check(asked).status
    return bool(state == health_pb2.HealthCheckResponse.SERVING)


def _until_closed(answers: Any) -> Iterator[Any]:
    try:
        with _told():
            yield from answers
    finally:
        answers.cancel()  # who stops listening stops the work


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except grpc.RpcError as error:
        raise error_of(error) from None
