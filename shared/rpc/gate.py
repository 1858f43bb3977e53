"""The one interceptor: who calls, may they, until when, how much, how many, and what failed."""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from shared.errors import Code, EchoFedError
from shared.rpc.codec import MIB
from shared.rpc.deadline import expect_deadline
from shared.rpc.metrics import CallMetrics, Counted
from shared.rpc.peer import Role, expect_admitted
from shared.rpc.slots import Slots
from shared.rpc.translate import refusal_of

log = logging.getLogger(__name__)
Behaviour = Callable[[Any, Any], Any]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server takes.

    Args:
        message_bytes: of one message; gRPC refuses a longer one before it is read.
        request_bytes: of all messages of one request.
        num_calls: calls under way at once.
        num_per_caller: calls of one caller under way at once, so that one site leaves room.
        longest_s: the latest deadline that a call may name.
        drain_s: how long calls under way may take to end when the server stops.
    """

    message_bytes: int = 4 * MIB
    request_bytes: int = 256 * MIB
    num_calls: int = 8
    num_per_caller: int = 4
    longest_s: float = 600.0
    drain_s: float = 30.0


class Gate(grpc.ServerInterceptor):  # type: ignore[misc]  # gRPC brings no types
    """Lets a call through to its servicer, or tells the caller why not."""

    def __init__(
        self,
        roles: Mapping[str, frozenset[Role]],
        limits: Limits,
        *,
        endless: Collection[str] = (),
        revoked_keys: Callable[[], Collection[str]],
        metrics: CallMetrics,
    ) -> None:
        """Keep the rules.

        Args:
            roles: who may call, by full method name (``/echofed.v1.ModelService/Fetch``). Other
                methods (health, reflection) need a certificate only.
            limits: what is taken.
            endless: methods whose requests have no limit in all, by full name.
            revoked_keys: OpenSSH lines of the keys that are admitted no more, asked at every call.
            metrics: counts what passes and what does not.
        """
        self._roles = roles
        self._limits = limits
        self._endless = frozenset(endless)
        self._revoked_keys = revoked_keys
        self._metrics = metrics
        self._slots = Slots(limits.num_calls, num_per_caller=limits.num_per_caller)

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """Put the gate before a method of ours.

        A single request is taken as a stream of one: gRPC would wait for it before the gate, in a
        thread of its own and, of a caller without a deadline, for ever.
        """
        handler = continuation(details)
        if handler is None or details.method not in self._roles:
            return handler
        requests, answers = (
            "stream" if streams else "unary"
            for streams in (handler.request_streaming, handler.response_streaming)
        )
        guard = self._streamed if handler.response_streaming else self._single
        read = self._read_all if handler.request_streaming else _read_one
        if handler.request_streaming and details.method in self._endless:
            read = _read_each
        parse, serialize = self._weighed(details.method, handler)

        def argument(incoming: Iterator[bytes]) -> Any:
            return read(incoming, parse)

        behaviour: Behaviour = getattr(handler, f"{requests}_{answers}")
        build = getattr(grpc, f"stream_{answers}_rpc_method_handler")
        return build(
            guard(details.method.lstrip("/"), argument, behaviour),
            request_deserializer=None,  # read behind the gate, so that a damaged one is told apart
            response_serializer=serialize,
        )

    def _weighed(
        self, method: str, handler: Any
    ) -> tuple[Callable[[bytes], Any], Callable[[Any], bytes]]:
        """How a method reads and writes messages, their bytes counted."""
        name = method.lstrip("/")

        def parse(message: bytes) -> Any:
            self._metrics.received(name, len(message))
            return _parsed(message, handler.request_deserializer)

        def serialize(answer: Any) -> bytes:
            message: bytes = handler.response_serializer(answer)
            self._metrics.sent(name, len(message))
            return message

        return parse, serialize

    def _single(
        self, method: str, argument: Callable[[Any], Any], behaviour: Behaviour
    ) -> Behaviour:
        def call(incoming: Any, context: Any) -> Any:
            with self._passing(method, context):
                return behaviour(argument(incoming), context)

        return call

    def _streamed(
        self, method: str, argument: Callable[[Any], Any], behaviour: Behaviour
    ) -> Behaviour:
        def call(incoming: Any, context: Any) -> Iterator[Any]:
            with self._passing(method, context):
                yield from behaviour(argument(incoming), context)

        return call

    @contextmanager
    def _passing(self, method: str, context: Any) -> Iterator[None]:
        """Count a call, let it in, and tell the caller what fails."""
        with self._metrics.counting(method) as counted:
            try:
                with self._admitted(method, context, counted):
                    yield
            except Exception as error:  # noqa: BLE001  nothing else may tell a caller what failed
                gone = isinstance(error, grpc.RpcError) and not context.is_active()
                refusal = refusal_of(
                    EchoFedError(Code.DEADLINE_EXCEEDED, "the caller has gone") if gone else error
                )
                log.info("refused a call: %s", refusal.status.name)
                counted.status = refusal.status
                self._metrics.refused(method, refusal.code)
                context.set_trailing_metadata(refusal.trailers)
                context.abort(refusal.status, refusal.details)

    @contextmanager
    def _admitted(self, method: str, context: Any, counted: Counted) -> Iterator[None]:
        peer = expect_admitted(context, revoked_keys=self._revoked_keys(), now=datetime.now(UTC))
        counted.role = peer.role
        allowed = self._roles[f"/{method}"]
        if peer.role not in allowed:
            raise EchoFedError(
                Code.ROLE_REFUSED,
                f"{method.rpartition('/')[2]} is not for the role {peer.role}",
                f"it is for {' and '.join(sorted(allowed))}",
            )
        expect_deadline(context, longest_s=self._limits.longest_s)
        with self._slots.place(f"{peer.name}.{peer.role}"):
            yield

    def _read_all(self, messages: Iterable[bytes], parse: Callable[[bytes], Any]) -> Iterator[Any]:
        left = self._limits.request_bytes
        for message in messages:
            left -= len(message)
            if left < 0:
                raise EchoFedError(
                    Code.REQUEST_TOO_LARGE,
                    f"the request is longer than {self._limits.request_bytes} bytes",
                    "send less at once",
                )
            yield parse(message)


def _read_each(messages: Iterable[bytes], parse: Callable[[bytes], Any]) -> Iterator[Any]:
    return (parse(message) for message in messages)


def _read_one(messages: Iterator[bytes], parse: Callable[[bytes], Any]) -> Any:
    message = next(messages, None)
    if message is None:
        raise EchoFedError(
            Code.WIRE_INVALID, "a call came without its message", "send the request with it"
        )
    return parse(message)


def _parsed(message: bytes, parse: Callable[[bytes], Any]) -> Any:
    try:
        return parse(message)
    except DecodeError as error:
        raise EchoFedError(
            Code.WIRE_INVALID,
            "a message cannot be read",
            "check that both ends run the same release",
        ) from error
