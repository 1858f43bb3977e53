"""An order arrives as it was sent; what no order can be is refused."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from shared.errors import Code, EchoFedError
from shared.pb import synthesis_pb2 as pb
from shared.rpc.codec import CHUNK_BYTES
from shared.services.orders import order_from, pack_order, parts_of_order, unpack_order
from shared.synthesis.order import Order, Variation

MAPS = np.random.default_rng(0).integers(0, 3, (3, 700, 700)).astype(np.uint8)
PLAIN = Order("A4C", labels_NHW=MAPS, structures=("outside", "background", "lv"))
VARIED = Order(
    "A2C",
    "candidate",
    labels_NHW=MAPS[:, :20, :20],
    structures=("lv",),
    variation=Variation(12, 2**64 - 1),
    seed=2**63,
    solver="heun",
    steps=0,
    guidance=0.0,
)
ANATOMY = Order("A4C", variation=Variation(4))


def same(one: Order, other: Order) -> None:
    assert replace(one, labels_NHW=None).__repr__() == replace(other, labels_NHW=None).__repr__()
    assert (one.labels_NHW is None) == (other.labels_NHW is None)
    if one.labels_NHW is not None and other.labels_NHW is not None:
        assert np.array_equal(one.labels_NHW, other.labels_NHW)
        assert one.labels_NHW.dtype == np.uint8


@pytest.mark.parametrize("before", [PLAIN, VARIED, ANATOMY])
def test_an_order_arrives_as_it_was_in_small_pieces(before: Order) -> None:
    messages = [part.SerializeToString() for part in parts_of_order(before)]
    same(order_from(pb.OrderPart.FromString(one) for one in messages), before)
    assert max(map(len, messages)) < CHUNK_BYTES + 300


def test_maps_in_any_order_of_memory_arrive_as_they_are_seen() -> None:
    turned = replace(PLAIN, labels_NHW=MAPS.transpose(0, 2, 1)[:, ::-1])
    same(order_from(parts_of_order(turned)), turned)


@pytest.mark.parametrize("before", [PLAIN, VARIED, ANATOMY])
def test_a_job_keeps_an_order_as_it_was(before: Order) -> None:
    same(unpack_order(pack_order(before)), before)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda part: part.ClearField("order"), Code.WIRE_INVALID),
        (lambda part: part.ClearField("shape"), Code.WIRE_INVALID),
        (lambda part: setattr(part, "dtype", "float32"), Code.WIRE_INVALID),
        (lambda part: setattr(part, "dtype", ""), Code.WIRE_INVALID),
        (lambda part: part.shape.append(3), Code.SHAPE_MISMATCH),
        (lambda part: part.shape.__setitem__(1, 8), Code.SHAPE_MISMATCH),
        (lambda part: part.shape.__setitem__(0, 0), Code.SHAPE_MISMATCH),
        (lambda part: part.shape.__setitem__(0, 2), Code.REQUEST_TOO_LARGE),
        (lambda part: part.shape.__setitem__(0, 4), Code.WIRE_INVALID),
        (lambda part: part.shape.__setitem__(0, 2**60), Code.REQUEST_TOO_LARGE),
        (lambda part: part.shape.__setitem__(slice(1, 3), [5000, 5000]), Code.REQUEST_TOO_LARGE),
        (lambda part: part.ClearField("labels"), Code.WIRE_INVALID),
        (lambda part: setattr(part.labels, "data", bytes(CHUNK_BYTES)), Code.WIRE_INVALID),
        (lambda part: setattr(part.labels, "offset", 1), Code.WIRE_INVALID),
        (lambda part: part.order.structures.extend(["a"] * 300), Code.WIRE_INVALID),
        (lambda part: part.order.structures.append("a" * 300), Code.WIRE_INVALID),
        (lambda part: setattr(part.order, "solver", "a" * 300), Code.WIRE_INVALID),
    ],
)
def test_what_no_order_can_be_is_refused(
    change: Callable[[pb.OrderPart], object], code: Code
) -> None:
    first, *rest = parts_of_order(PLAIN)
    change(first)
    with pytest.raises(EchoFedError) as refused:
        order_from(iter([first, *rest]))
    assert refused.value.code is code


def test_an_order_stands_at_the_beginning_once() -> None:
    first, *rest = parts_of_order(PLAIN)
    rest[0].order.CopyFrom(first.order)
    (bare,) = parts_of_order(ANATOMY)
    for parts in ([first, *rest], [bare, bare], [first, first], []):
        with pytest.raises(EchoFedError) as refused:
            order_from(iter(parts))
        assert refused.value.code is Code.WIRE_INVALID
