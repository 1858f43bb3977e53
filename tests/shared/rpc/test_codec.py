"""What goes into a message comes out of it, and nothing that was damaged does."""

import hashlib
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shared.errors import Code, EchoFedError
from shared.pb import tensor_pb2 as pb
from shared.rpc.codec import (
    CHUNK_BYTES,
    chunks_of,
    chunks_of_file,
    chunks_of_tensor,
    join_chunks,
    tensor_from,
    tensor_from_chunks,
    tensor_to,
)

DTYPES = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
)
LONG = np.random.default_rng(0).bytes(3 * CHUNK_BYTES + 5)


@settings(deadline=None)  # the machine may be busy
@given(hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0)))
def test_an_array_comes_back_as_it_was(array: np.ndarray) -> None:
    back = tensor_from(pb.Tensor.FromString(tensor_to(array).SerializeToString()))
    assert (back.shape, back.dtype) == (array.shape, array.dtype.newbyteorder("="))
    assert np.array_equal(back, array, equal_nan=array.dtype.kind == "f")
    assert back.flags.writeable


@settings(deadline=None, max_examples=40)
@given(hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0)))
def test_an_array_in_pieces_comes_back_as_it_was(array: np.ndarray) -> None:
    sent = [piece.SerializeToString() for piece in chunks_of_tensor(array)]
    pieces = (pb.TensorChunk.FromString(piece) for piece in sent)
    back = tensor_from_chunks(pieces, limit_bytes=array.nbytes)
    assert (back.shape, back.dtype) == (array.shape, array.dtype.newbyteorder("="))
    assert np.array_equal(back, array, equal_nan=array.dtype.kind == "f")
    assert back.flags.writeable


def test_the_bytes_are_little_endian_and_the_last_axis_runs_fastest() -> None:
    message = tensor_to(np.array([[1, 2], [3, 4]], ">u2").T)
    assert message.data == bytes([1, 0, 3, 0, 2, 0, 4, 0])
    assert (list(message.shape), message.dtype) == ([2, 2], "uint16")


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([None]), np.array([1j])])
def test_other_things_than_numbers_do_not_travel(array: np.ndarray) -> None:
    with pytest.raises(EchoFedError) as refused:
        tensor_to(array)
    assert refused.value.code is Code.WIRE_INVALID


@pytest.mark.parametrize(
    "spoil",
    [
        lambda good: setattr(good, "dtype", "object"),
        lambda good: setattr(good, "dtype", "float64"),
        lambda good: setattr(good, "data", good.data[:-1]),
        lambda good: setattr(good, "data", bytes(len(good.data))),
        lambda good: setattr(good, "sha256", b""),
        lambda good: good.shape.append(2),
        lambda good: good.shape.extend([1] * 80),
        lambda good: good.shape.__setitem__(slice(None), [2**63, 2**63, 0]),
    ],
)
def test_a_damaged_tensor_is_refused(spoil: Callable[[pb.Tensor], object]) -> None:
    message = tensor_to(np.arange(6, dtype=np.float32).reshape(2, 3))
    spoil(message)
    with pytest.raises(EchoFedError) as refused:
        tensor_from(message)
    assert refused.value.code is Code.WIRE_INVALID


def test_a_shape_that_numpy_cannot_hold_is_refused_even_when_its_bytes_fill_it() -> None:
    empty = hashlib.sha256(b"").digest()
    for shape in ([2**63, 0], [0] * 80):
        with pytest.raises(EchoFedError) as refused:
            tensor_from(pb.Tensor(shape=shape, dtype="uint8", sha256=empty))
        assert refused.value.code is Code.WIRE_INVALID


def test_a_boolean_of_another_value_is_refused() -> None:
    data = b"\x02"
    message = pb.Tensor(shape=[1], dtype="bool", data=data, sha256=hashlib.sha256(data).digest())
    with pytest.raises(EchoFedError):
        tensor_from(message)


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, len(LONG)])
def test_pieces_make_the_whole_again(tmp_path: Path, size: int) -> None:
    data = LONG[:size]
    (tmp_path / "long").write_bytes(data)
    pieces = list(chunks_of(data))
    assert join_chunks(pieces, limit_bytes=size) == data
    assert list(chunks_of_file(tmp_path / "long")) == pieces
    assert all(0 < len(piece.data) <= CHUNK_BYTES for piece in pieces) or size == 0
    assert [bool(piece.sha256) for piece in pieces] == [False] * (len(pieces) - 1) + [True]


@pytest.mark.parametrize(
    "order",
    [[], [0], [0, 1, 2], [1, 2, 3], [0, 2, 1, 3], [0, 1, 1, 2, 3], [0, 1, 2, 3, 3], [3]],
)
def test_missing_doubled_and_swapped_pieces_are_refused(order: list[int]) -> None:
    pieces = list(chunks_of(LONG))
    with pytest.raises(EchoFedError) as refused:
        join_chunks([pieces[place] for place in order], limit_bytes=len(LONG))
    assert refused.value.code is Code.WIRE_INVALID


def test_a_changed_byte_is_refused() -> None:
    pieces = list(chunks_of(LONG))
    pieces[1].data = bytes(CHUNK_BYTES)
    with pytest.raises(EchoFedError) as refused:
        join_chunks(pieces, limit_bytes=len(LONG))
    assert refused.value.code is Code.WIRE_INVALID


def test_pieces_are_held_up_to_the_limit_only() -> None:
    taken = []

    def endless() -> object:
        for place in range(1000):
            taken.append(place)
            yield pb.Chunk(offset=10 * place, data=bytes(10))

    with pytest.raises(EchoFedError) as refused:
        join_chunks(endless(), limit_bytes=35)
    assert (refused.value.code, len(taken)) == (Code.REQUEST_TOO_LARGE, 4)


LONG_ARRAY = np.frombuffer(LONG[: 3 * CHUNK_BYTES], "<i4").reshape(3, -1)


def tensor_pieces() -> list[pb.TensorChunk]:
    """A head and three pieces."""
    return list(chunks_of_tensor(LONG_ARRAY))


@pytest.mark.parametrize("array", [LONG_ARRAY, LONG_ARRAY.T, LONG_ARRAY[:, ::2]])
def test_a_long_array_travels_in_pieces_in_any_memory_order(array: np.ndarray) -> None:
    pieces = list(chunks_of_tensor(array))
    assert len(pieces) == 1 + -(-array.nbytes // CHUNK_BYTES)
    assert np.array_equal(tensor_from_chunks(pieces, limit_bytes=array.nbytes), array)


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([1j])])
def test_other_things_than_numbers_do_not_travel_in_pieces(array: np.ndarray) -> None:
    with pytest.raises(EchoFedError) as refused:
        chunks_of_tensor(array)
    assert refused.value.code is Code.WIRE_INVALID


@pytest.mark.parametrize(
    "order",
    [
        [],
        [0],
        [1, 2, 3],
        [0, 0, 1, 2, 3],
        [0, 1, 0, 2, 3],
        [0, 1, 2, 3, 0],
        [0, 1, 2],
        [0, 2, 1, 3],
    ],
)
def test_a_tensor_of_missing_doubled_or_swapped_pieces_is_refused(order: list[int]) -> None:
    pieces = tensor_pieces()
    with pytest.raises(EchoFedError) as refused:
        tensor_from_chunks([pieces[place] for place in order], limit_bytes=len(LONG))
    assert refused.value.code is Code.WIRE_INVALID


@pytest.mark.parametrize(
    "spoil",
    [
        lambda pieces: setattr(pieces[0].head, "dtype", "object"),
        lambda pieces: setattr(pieces[0].head, "dtype", "int16"),
        lambda pieces: setattr(pieces[0].head, "dtype", "bool"),
        lambda pieces: pieces[0].head.shape.append(0),
        lambda pieces: pieces[0].head.shape.extend([1] * 80),
        lambda pieces: pieces[0].head.shape.__setitem__(0, 4),
        lambda pieces: setattr(pieces[1].data, "data", bytes(CHUNK_BYTES)),
        lambda pieces: setattr(pieces[2].data, "data", b""),
        lambda pieces: setattr(pieces[3].data, "sha256", bytes(32)),
    ],
)
def test_a_tensor_of_damaged_pieces_is_refused(spoil: Callable[..., object]) -> None:
    pieces = tensor_pieces()
    spoil(pieces)
    with pytest.raises(EchoFedError) as refused:
        tensor_from_chunks(pieces, limit_bytes=2 * len(LONG))
    assert refused.value.code is Code.WIRE_INVALID


def test_a_shape_beyond_the_limit_is_refused_before_its_first_piece() -> None:
    head = pb.TensorChunk(head=pb.Tensor(shape=[2**40], dtype="float32"))

    def pieces() -> Iterator[pb.TensorChunk]:
        yield head
        pytest.fail("read on")

    with pytest.raises(EchoFedError) as refused:
        tensor_from_chunks(pieces(), limit_bytes=2**30)
    assert refused.value.code is Code.REQUEST_TOO_LARGE


def test_an_array_in_pieces_is_never_held_twice() -> None:
    array = np.zeros(32 * CHUNK_BYTES, np.uint8)
    tracemalloc.start()
    try:
        tensor_from_chunks(chunks_of_tensor(array), limit_bytes=array.nbytes)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < array.nbytes + 8 * CHUNK_BYTES
