"""Orders of images to messages and back; what arrives is held against what an order can be."""

import math
from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np

from shared.errors import Code, EchoFedError
from shared.files import arrays_from_bytes, arrays_to_bytes
from shared.pb import synthesis_pb2 as pb
from shared.pb.tensor_pb2 import Chunk
from shared.rpc.codec import chunks_of, join_chunks
from shared.synthesis.order import Labels, Order, Variation, expect_map_shape

_DTYPE = "uint8"
_LONGEST_NAME, _MOST_NAMES = 80, 256


def order_to(order: Order) -> pb.Order:
    """The message of an order, without its label maps."""
    varied = order.variation
    return pb.Order(
        alias=order.alias,
        view=order.view,
        structures=order.structures,
        variation=None
        if varied is None
        else pb.Variation(num_images=varied.num_images, seed=varied.seed),
        seed=order.seed,
        solver=order.solver or "",
        steps=order.steps,
        guidance=order.guidance,
    )


def parts_of_order(order: Order) -> Iterator[pb.OrderPart]:
    """The pieces of an order."""
    if order.labels_NHW is None:
        return iter([pb.OrderPart(order=order_to(order))])
    chunks = chunks_of(np.ascontiguousarray(order.labels_NHW).tobytes())
    shape, dtype = order.labels_NHW.shape, order.labels_NHW.dtype.name
    first = pb.OrderPart(order=order_to(order), shape=shape, dtype=dtype, labels=next(chunks))
    return chain([first], (pb.OrderPart(labels=chunk) for chunk in chunks))


def order_from(parts: Iterator[pb.OrderPart]) -> Order:
    """The order of its pieces.

    Raises:
        EchoFedError: WIRE_INVALID for another type, a missing or damaged piece; SHAPE_MISMATCH;
            REQUEST_TOO_LARGE.
    """
    first = next(parts, pb.OrderPart())
    if not first.HasField("order"):
        raise _invalid("does not say what is to be drawn")
    if not first.shape:
        if first.HasField("labels") or next(parts, None) is not None:
            raise _invalid("has label maps without a shape")
        return _order_from(first.order, None)
    shape = tuple(first.shape)
    if first.dtype != _DTYPE:
        raise _invalid(f"holds {first.dtype[:20]!r}; label maps are {_DTYPE}")
    expect_map_shape(shape)
    size = math.prod(shape)
    labels = join_chunks(_labels(first, parts), limit_bytes=size)
    if len(labels) != size:
        raise _invalid(f"has {len(labels)} labels, which do not fill its shape")
    return _order_from(first.order, np.frombuffer(labels, np.uint8).reshape(shape))


def pack_order(order: Order) -> bytes:
    """An order as a job keeps it."""
    asked = np.frombuffer(order_to(order).SerializeToString(), np.uint8)
    labels = {} if order.labels_NHW is None else {"labels": order.labels_NHW}
    return arrays_to_bytes({"order": asked, **labels}, {})


def unpack_order(packed: bytes) -> Order:
    """What ``pack_order`` packed.

    Raises:
        EchoFedError: CHECKPOINT_CORRUPT.
    """
    arrays, _ = arrays_from_bytes(packed)
    return _order_from(pb.Order.FromString(arrays["order"].tobytes()), arrays.get("labels"))


def _order_from(message: pb.Order, labels_NHW: Labels | None) -> Order:
    if len(message.structures) > _MOST_NAMES:
        raise _invalid(f"names {len(message.structures)} structures")
    if any(len(name) > _LONGEST_NAME for name in (*message.structures, message.solver)):
        raise _invalid("has a name that is too long for one")
    variation = None
    if message.HasField("variation"):
        variation = Variation(message.variation.num_images, message.variation.seed)
    return Order(
        view=message.view,
        alias=message.alias,
        labels_NHW=labels_NHW,
        structures=tuple(message.structures),
        variation=variation,
        seed=message.seed,
        solver=message.solver or None,
        steps=message.steps if message.HasField("steps") else None,
        guidance=message.guidance if message.HasField("guidance") else None,
    )


def _labels(first: pb.OrderPart, rest: Iterable[pb.OrderPart]) -> Iterator[Chunk]:
    if first.HasField("labels"):
        yield first.labels
    for part in rest:
        if part.HasField("order"):
            raise _invalid("begins twice")
        yield part.labels


def _invalid(what: str) -> EchoFedError:
    return EchoFedError(Code.WIRE_INVALID, f"the order {what}", "check the caller's release")
