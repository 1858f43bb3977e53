"""One service on loopback, and calls of it, for tests."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.message import Message

from shared.errors import Code, EchoFedError
from shared.rpc.gate import Limits
from shared.rpc.peer import Credentials
from shared.rpc.server import Service, running_server

LIMITS = Limits(
    message_bytes=64 * 1024,
    request_bytes=96 * 1024,
    num_calls=3,
    num_per_caller=1,
    longest_s=100.0,
    drain_s=1.0,
)
BadRequest = tuple[str, Message, Code]


class StandIn:
    """A servicer whose methods all do the same."""

    def __init__(self, behaviour: Callable[[Any, Any], Any]) -> None:
        self._behaviour = behaviour

    def __getattr__(self, method: str) -> Callable[[Any, Any], Any]:
        return self._behaviour


@contextmanager
def hosting(
    service: Service,
    passes: Mapping[str, Credentials],
    *,
    limits: Limits = LIMITS,
    revoked_keys: Sequence[str] = (),
) -> Iterator[str]:
    """Host one service on loopback and yield its address."""
    with running_server(
        [service],
        passes["server"],
        address="127.0.0.1:0",
        limits=limits,
        revoked_keys=lambda: revoked_keys,
    ) as port:
        yield f"127.0.0.1:{port}"


def ask(
    channel: Any,
    service: Service,
    method: str,
    *messages: Message | bytes,
    timeout: float | None = 10.0,
) -> list[Any]:
    """Call a method of any kind and return all that it answers; without messages an empty one."""
    kind = service.descriptor.methods_by_name[method]
    kinds = ("stream" if one else "unary" for one in (kind.client_streaming, kind.server_streaming))
    call = getattr(channel, "_".join(kinds))(
        f"/{service.name}/{method}",
        request_serializer=lambda one: one if isinstance(one, bytes) else one.SerializeToString(),
        response_deserializer=message_factory.GetMessageClass(kind.output_type).FromString,
    )
    sent = messages or (b"",)
    answer = call(iter(sent) if kind.client_streaming else sent[0], timeout=timeout)
    return list(answer) if kind.server_streaming else [answer]


def refusal(channel: Any, service: Service, method: str, *messages: Any, **how: Any) -> Code:
    """The code by which a call is refused."""
    with pytest.raises(EchoFedError) as refused:
        ask(channel, service, method, *messages, **how)
    return refused.value.code


def first_role(service: Service, method: str) -> str:
    """A role that may call a method."""
    return min(service.roles[method])


def read_everything(incoming: Any, _: Any) -> Any:
    """A servicer's method that reads its request and has nothing to say."""
    if not isinstance(incoming, Message):
        list(incoming)
    raise EchoFedError(Code.NOTHING_TO_DO, "read")


@contextmanager
def bare_channel(address: str, credentials: Credentials) -> Iterator[Any]:
    """A channel that sets no deadline and translates nothing."""
    secured = grpc.ssl_channel_credentials(
        *(path.read_bytes() for path in (credentials.ca, credentials.key, credentials.certificate))
    )
    with grpc.secure_channel(address, secured) as channel:
        yield channel
