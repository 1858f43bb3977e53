"""A server of services: mutual TLS, the gate, health, and an end without lost calls."""

import signal
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from shared.errors import Code, EchoFedError
from shared.rpc.allocation import keep_freed_memory
from shared.rpc.gate import Gate, Limits
from shared.rpc.metrics import CallMetrics
from shared.rpc.peer import Credentials, Role

_SPARE_THREADS = 4  # refuse calls and answer health while all places are taken
_SPARE_CALLS = 64  # watchers of health and calls about to be refused; gRPC refuses beyond
PING_AT_MOST_EVERY_S = 30


@dataclass(frozen=True, slots=True)
class Service:
    """One service that a server can host.

    Args:
        descriptor: of the service, from its stub.
        servicer: has a method of each name.
        add: the stub's function that adds a servicer to a server.
        roles: who may call, by the name of the method; each has its line.
        endless: methods whose requests have no limit in all, for they answer each message before
            they read the next.
        running: holds what works beside the calls; it is left when no call is taken any more.
    """

    descriptor: ServiceDescriptor
    servicer: object
    add: Callable[[Any, Any], None]
    roles: Mapping[str, frozenset[Role]]
    endless: frozenset[str] = frozenset()
    running: Callable[[], AbstractContextManager[object]] = nullcontext

    def __post_init__(self) -> None:
        """Refuse a method that nobody or everybody might call by an oversight."""
        assert set(self.roles) == set(self.descriptor.methods_by_name), "a method has no roles"

    @property
    def name(self) -> str:
        return str(self.descriptor.full_name)


@dataclass(frozen=True, slots=True)
class Watch:
    """What a server lets others see of itself.

    Args:
        metrics: count its calls.
        reflection: tell callers the services' descriptors; for development.
    """

    metrics: CallMetrics = field(default_factory=CallMetrics)
    reflection: bool = False


@contextmanager
def running_server(
    services: Sequence[Service],
    credentials: Credentials,
    *,
    address: str,
    limits: Limits,
    revoked_keys: Callable[[], Collection[str]],
    watch: Watch | None = None,
) -> Iterator[int]:
    """Hold a server; at the end no call is taken any more, and those under way may finish.

    Args:
        services: what it hosts.
        credentials: of the server; callers must be signed by the same authority.
        address: ``host:port`` to listen on; port 0 takes a free one.
        limits: what is taken.
        revoked_keys: OpenSSH lines of the keys that are admitted no more, asked at every call.
        watch: what can be seen of it; nothing unless given.

    Yields:
        The port.

    Raises:
        EchoFedError: CENTRE_UNREACHABLE where the port is taken.
    """
    keep_freed_memory()
    seen = watch or Watch()
    roles = {
        f"/{service.name}/{method}": allowed
        for service in services
        for method, allowed in service.roles.items()
    }
    endless = {f"/{service.name}/{method}" for service in services for method in service.endless}
    server = grpc.server(
        ThreadPoolExecutor(limits.num_calls + _SPARE_THREADS, thread_name_prefix="service"),
        interceptors=[
            Gate(roles, limits, endless=endless, revoked_keys=revoked_keys, metrics=seen.metrics)
        ],
        maximum_concurrent_rpcs=limits.num_calls + _SPARE_CALLS,
        options=[
            ("grpc.max_receive_message_length", limits.message_bytes),
            ("grpc.so_reuseport", 0),  # else a second server shares the port in silence
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 1000 * PING_AT_MOST_EVERY_S),
        ],
    )
    state = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(state, server)
    for service in services:
        service.add(service.servicer, server)
        state.set(service.name, health_pb2.HealthCheckResponse.SERVING)
    if seen.reflection:
        _reflect(services, server)
    port = _listen(server, address, credentials)
    with ExitStack() as beside:
        for service in services:
            beside.enter_context(service.running())
        server.start()
        state.set("", health_pb2.HealthCheckResponse.SERVING)
        try:
            yield port
        finally:
            state.enter_graceful_shutdown()
            stopped = server.stop(limits.drain_s)
            beside.close()
            stopped.wait()


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and Ctrl-C set instead of ending the process; in the main thread."""
    stop = threading.Event()
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda *_: stop.set()) for number in numbers]
    try:
        yield stop
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _listen(server: Any, address: str, credentials: Credentials) -> int:
    try:
        port = int(server.add_secure_port(address, _secured(credentials)))
    except RuntimeError:  # newer releases raise where older ones returned 0
        port = 0
    if not port:
        raise EchoFedError(
            Code.CENTRE_UNREACHABLE,
            f"no server can listen on {address}",
            "free the port or choose another",
        )
    return port


def _secured(credentials: Credentials) -> Any:
    """Mutual TLS that takes up a renewed certificate at the next connection."""
    shown = credentials.certificate.read_bytes()

    def configuration() -> Any:
        pair = (credentials.key.read_bytes(), shown)
        return grpc.ssl_server_certificate_configuration(
            [pair], root_certificates=credentials.ca.read_bytes()
        )

    def renewed() -> Any:
        nonlocal shown
        now = credentials.certificate.read_bytes()  # written after its key
        if now == shown:
            return None
        shown = now
        return configuration()

    return grpc.dynamic_ssl_server_credentials(
        configuration(), renewed, require_client_authentication=True
    )


def _reflect(services: Sequence[Service], server: Any) -> None:
    from grpc_reflection.v1alpha import reflection

    names = [service.name for service in services]
    reflection.enable_server_reflection((*names, reflection.SERVICE_NAME), server)
