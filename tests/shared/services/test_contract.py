"""A service of one proto and one servicer keeps the contract, in all four kinds of call."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

from shared.errors import Code, EchoFedError
from shared.pb import tensor_pb2 as pb
from shared.rpc import codec
from shared.rpc.channel import open_channel
from shared.rpc.deadline import expect_wanted
from shared.rpc.peer import ROLES, Credentials
from shared.rpc.server import Service
from shared.services import SERVICES
from shared.testing.contracts import ServiceContract
from shared.testing.hosting import LIMITS, BadRequest, ask, bare_channel, hosting, refusal

KINDS = {"Double": (0, 0), "Sum": (1, 0), "Count": (0, 1), "Echo": (1, 1)}


def tally_service() -> Any:
    """The descriptor that ``tally.proto`` would give."""
    file = descriptor_pb2.FileDescriptorProto(
        name="tally.proto",
        package="tests.v1",
        syntax="proto3",
        dependency=["shared/pb/tensor.proto"],
    )
    service = file.service.add(name="TallyService")
    for name, (client_streaming, server_streaming) in KINDS.items():
        service.method.add(
            name=name,
            input_type=".echofed.v1.Tensor",
            output_type=".echofed.v1.Tensor",
            client_streaming=bool(client_streaming),
            server_streaming=bool(server_streaming),
        )
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindServiceByName("tests.v1.TallyService")


class TallyServicer:
    def Double(self, request: pb.Tensor, context: Any) -> pb.Tensor:
        return codec.tensor_to(2 * codec.tensor_from(request))

    def Sum(self, request: Iterator[pb.Tensor], context: Any) -> pb.Tensor:
        return codec.tensor_to(np.asarray(sum(codec.tensor_from(one).sum() for one in request)))

    def Count(self, request: pb.Tensor, context: Any) -> Iterator[pb.Tensor]:
        number = codec.tensor_from(request)
        end = int(number) if number.shape == () else -1
        if end < 0:
            raise EchoFedError(Code.SHAPE_MISMATCH, "nobody counts down")
        return (codec.tensor_to(np.asarray(number)) for number in range(end))

    def Echo(self, request: Iterator[pb.Tensor], context: Any) -> Iterator[pb.Tensor]:
        for one in request:
            expect_wanted(context)
            yield codec.tensor_to(codec.tensor_from(one))


def add_tally(servicer: Any, server: Any) -> None:
    """What the compiler's stub would do."""
    handlers = {
        name: getattr(
            grpc, f"{'_'.join('stream' if one else 'unary' for one in kind)}_rpc_method_handler"
        )(
            getattr(servicer, name),
            request_deserializer=pb.Tensor.FromString,
            response_serializer=pb.Tensor.SerializeToString,
        )
        for name, kind in KINDS.items()
    }
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("tests.v1.TallyService", handlers)]
    )


@pytest.fixture(scope="module")
def service() -> Service:
    roles = {name: frozenset(ROLES) for name in KINDS} | {"Sum": frozenset({"auditor"})}
    return Service(tally_service(), TallyServicer(), add_tally, roles=roles)


def tensor(*values: float) -> pb.Tensor:
    return codec.tensor_to(np.asarray(values))


class TestTallyService(ServiceContract):
    @pytest.fixture
    def bad_requests(self) -> Sequence[BadRequest]:
        good, minus = tensor(1.0), codec.tensor_to(np.asarray(-1))
        damaged = pb.Tensor(shape=good.shape, dtype=good.dtype, data=bytes(8), sha256=good.sha256)
        wrong = [(method, damaged, Code.WIRE_INVALID) for method in KINDS]
        return [*wrong, ("Count", minus, Code.SHAPE_MISMATCH)]


def test_all_four_kinds_answer(service: Service, passes: Mapping[str, Credentials]) -> None:
    with hosting(service, passes) as address, open_channel(address, passes["auditor"]) as channel:
        answers = {
            "Double": ask(channel, service, "Double", tensor(1.0, 2.0)),
            "Sum": ask(channel, service, "Sum", tensor(1.0), tensor(2.0, 3.0)),
            "Count": ask(channel, service, "Count", codec.tensor_to(np.asarray(3))),
            "Echo": ask(channel, service, "Echo", tensor(4.0), tensor(5.0)),
        }
    got = {
        name: [codec.tensor_from(one).tolist() for one in all_] for name, all_ in answers.items()
    }
    assert got == {
        "Double": [[2.0, 4.0]],
        "Sum": [6.0],
        "Count": [0, 1, 2],
        "Echo": [[4.0], [5.0]],
    }


@pytest.mark.parametrize("method", ["Sum", "Echo"])
def test_a_request_of_many_messages_has_a_limit_in_all(
    service: Service, passes: Mapping[str, Credentials], method: str
) -> None:
    message = codec.tensor_to(np.zeros(LIMITS.message_bytes // 2, np.uint8))
    enough = LIMITS.request_bytes // message.ByteSize()
    with hosting(service, passes) as address, open_channel(address, passes["auditor"]) as channel:
        ask(channel, service, method, *[message] * enough)
        code = refusal(channel, service, method, *[message] * (enough + 1))
    assert code is Code.REQUEST_TOO_LARGE


def test_who_stops_listening_frees_the_place(
    service: Service, passes: Mapping[str, Credentials]
) -> None:
    endless = codec.tensor_to(np.asarray(10**9))
    with hosting(service, passes) as address, open_channel(address, passes["site"]) as channel:
        call = channel.unary_stream(
            "/tests.v1.TallyService/Count",
            request_serializer=pb.Tensor.SerializeToString,
            response_deserializer=pb.Tensor.FromString,
        )
        answers = call(endless)
        next(answers)
        answers.close()
        deadline = time.monotonic() + 5.0
        while True:  # the place is freed when the server notices
            try:
                assert len(ask(channel, service, "Double", tensor(1.0))) == 1
                break
            except EchoFedError:
                assert time.monotonic() < deadline


def test_who_does_not_listen_holds_a_place_no_longer_than_the_deadline(
    service: Service, passes: Mapping[str, Credentials]
) -> None:
    endless = codec.tensor_to(np.asarray(10**9)).SerializeToString()
    with (
        hosting(service, passes) as address,
        open_channel(address, passes["site"]) as channel,
        bare_channel(address, passes["site"]) as inner,
    ):
        held = inner.unary_stream("/tests.v1.TallyService/Count")(endless, timeout=0.5)
        assert held.code() is grpc.StatusCode.DEADLINE_EXCEEDED  # not a message of it was read
        give_up = time.monotonic() + 20.0
        while not answers(channel, service):
            assert time.monotonic() < give_up


def answers(channel: Any, service: Service) -> bool:
    """Whether the caller finds a place."""
    try:
        ask(channel, service, "Double", tensor(1.0))
    except EchoFedError:
        return False
    return True


def test_every_line_of_the_table_loads() -> None:
    assert all(callable(SERVICES[name]) for name in SERVICES.names())
