"""Calls as nobody should make them, of every method of a service, all from one generator."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import numpy as np
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from shared.errors import Code
from shared.pb import tensor_pb2
from shared.rpc.codec import tensor_to
from shared.rpc.server import Service
from shared.rpc.translate import error_of

_F = FieldDescriptor
_TEXTS = ("", "a", "é" * 50, "../ca.key", "x" * 300, "\x00", "%s%n", "float32")
_NUMBERS = (0, 1, 2, 7, 255, 2**31 - 1)
_MOST_ANSWERS = 20  # are listened to before the caller leaves


class Fuzzer:
    """Makes bad calls.

    Args:
        service: whose methods are called.
        seeds: requests by method that are bent besides random ones.
        generator: of all that is random.
    """

    def __init__(
        self, service: Service, seeds: Sequence[tuple[str, Message]], generator: random.Random
    ) -> None:
        self._service = service
        self._seeds = seeds
        self._generator = generator

    def call(self, channel: Any, method: str) -> Code | None:
        """Make one bad call and return the code that answers it, or None for an answer.

        Args:
            channel: gRPC's own, for a caller that keeps to no rule of ours.
            method: name of the method.
        """
        draw = self._generator
        messages = [self._message(method) for _ in range(self._num_messages(method))]
        call = channel.stream_stream(f"/{self._service.name}/{method}")(
            iter(messages),
            timeout=draw.choices((10.0, 0.005, None, 10_000.0), (85, 5, 5, 5))[0],
            metadata=self._metadata(),
        )
        if draw.random() < 0.1:
            call.cancel()  # at once, so that the call may be cut in the middle of its messages
        try:
            for place, _ in enumerate(call):
                if place > draw.randrange(_MOST_ANSWERS):
                    call.cancel()
        except grpc.RpcError as error:
            return error_of(error).code
        return None

    def _num_messages(self, method: str) -> int:
        streams = self._service.descriptor.methods_by_name[method].client_streaming
        return self._generator.choices(
            range(5), (5, 60, 15, 10, 10) if streams else (5, 90, 5, 0, 0)
        )[0]

    def _message(self, method: str) -> bytes:
        draw = self._generator
        if draw.random() < 0.2:
            return draw.randbytes(draw.choice((0, 1, 3, 20, 300)))
        seeds = [message for name, message in self._seeds if name == method]
        kind = self._service.descriptor.methods_by_name[method].input_type
        message = draw.choice(seeds) if seeds and draw.random() < 0.5 else self._random(kind, 0)
        return self._bent(message.SerializeToString())

    def _bent(self, data: bytes) -> bytes:
        """The bytes as they are, cut, with some changed or with more."""
        draw, bent = self._generator, bytearray(data)
        how = draw.choice(("as it is", "cut", "changed", "longer"))
        if how == "cut":
            del bent[draw.randrange(len(bent) + 1) :]
        if how == "changed" and bent:
            for _ in range(draw.randint(1, 4)):
                bent[draw.randrange(len(bent))] = draw.randrange(256)
        if how == "longer":
            bent += draw.randbytes(draw.randint(1, 30))
        return bytes(bent)

    def _random(self, kind: Descriptor, depth: int) -> Message:
        """A message with some of its fields, which mean nothing."""
        message: Any = message_factory.GetMessageClass(kind)()
        if kind.full_name == tensor_pb2.Tensor.DESCRIPTOR.full_name:
            message.CopyFrom(self._tensor())
            return message
        for field in kind.fields:
            is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
            if is_map or self._generator.random() < 0.3:
                continue
            self._set(message, field, depth)
        return message

    def _set(self, message: Any, field: FieldDescriptor, depth: int) -> None:
        if field.type == _F.TYPE_MESSAGE:
            if depth < 4:
                part = getattr(message, field.name)
                (part.add() if field.is_repeated else part).CopyFrom(
                    self._random(field.message_type, depth + 1)
                )
        elif field.is_repeated:
            count = self._generator.randrange(4)
            getattr(message, field.name).extend(self._value(field) for _ in range(count))
        else:
            setattr(message, field.name, self._value(field))

    def _value(self, field: FieldDescriptor) -> Any:
        draw = self._generator
        if field.type == _F.TYPE_BYTES:
            return draw.randbytes(draw.choice((0, 1, 8, 32, 500)))
        if field.type == _F.TYPE_ENUM:
            return draw.choice(field.enum_type.values).number
        made: dict[int, Callable[[], Any]] = {
            _F.CPPTYPE_STRING: lambda: draw.choice(_TEXTS),
            _F.CPPTYPE_BOOL: lambda: draw.random() < 0.5,
            _F.CPPTYPE_FLOAT: lambda: draw.choice((0.0, -1.0, 1e30, float("nan"), float("inf"))),
            _F.CPPTYPE_DOUBLE: lambda: draw.choice((0.0, -1.0, 1e300, float("nan"), float("inf"))),
        }
        return made.get(field.cpp_type, lambda: draw.choice(_NUMBERS))()

    def _tensor(self) -> tensor_pb2.Tensor:
        """A small array, whole or with a lie in its form, bytes or checksum."""
        draw = self._generator
        shape = [draw.randrange(5) for _ in range(draw.randrange(5))]
        dtype = draw.choice(("uint8", "float32", "float64", "bool", "int64"))
        message = tensor_to(np.zeros(shape, dtype))
        lies: tuple[Callable[[], Any], ...] = (
            lambda: None,
            lambda: message.shape.append(draw.choice((0, 1, 2**40, 2**63))),
            lambda: setattr(message, "dtype", draw.choice(("object", "float16", ""))),
            lambda: setattr(message, "data", draw.randbytes(len(message.data))),
            lambda: setattr(message, "data", message.data[1:]),
            lambda: setattr(message, "sha256", draw.randbytes(draw.choice((0, 32)))),
        )
        draw.choice(lies)()
        return message

    def _metadata(self) -> list[tuple[str, str | bytes]]:
        draw = self._generator
        odd: tuple[tuple[str, str | bytes], ...] = (
            (f"x-{draw.randrange(10)}", "v" * draw.choice((0, 1, 900))),
            ("x-odd-bin", draw.randbytes(40)),
            ("echofed-code", draw.choice(("1", "-5", "none"))),
        )
        return draw.choices(odd, k=draw.choices((0, 1, 5), (70, 20, 10))[0])
