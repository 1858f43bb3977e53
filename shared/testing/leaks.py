"""What must not be in a body that leaves: names, undeclared fields and pictures in disguise."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import oaconvolve

from shared.errors import EchoFedError
from shared.files import arrays_from_bytes

CORRELATION_LIMIT = 0.5
"""Above it an array is taken for a picture: noise stays below 0.2, a blurred copy above 0.8."""
_SIZES = (16, 28, 32, 56, 64, 112, 128, 224)
_TEMPLATE = 1024  # pixels in the piece of a frame that is searched for in a stream
_STREAMS = ("u1", "<f2", "<f4", "<f8")
_FLAT = 1e-2  # norm of a window, of numbers in [-1, 1], below which it shows nothing


def find_words(body: bytes, words: Iterable[str]) -> set[str]:
    """Words that stand in a body in any of the usual encodings, whatever their case."""
    lowered = body.lower()
    found = set()
    for word in words:
        forms = {word.lower().encode(coding) for coding in ("utf-8", "utf-16-le", "utf-16-be")}
        if any(form in lowered for form in forms):
            found.add(word)
    return found


def undeclared(document: Any, declared: Any, *, path: str = "") -> list[str]:
    """Dotted paths of a document that the declaration does not allow.

    Args:
        document: JSON value that left.
        declared: a type or tuple of types for a leaf; a mapping of known keys; ``{"*": ...}`` for
            free keys; a one-element list for sequences.
        path: where the document stands.
    """
    if isinstance(declared, Mapping):
        if not isinstance(document, Mapping):
            return [path or "."]
        return [
            found
            for key, value in document.items()
            for found in _undeclared_key(str(key), value, declared, path)
        ]
    if isinstance(declared, list):
        if not isinstance(document, list):
            return [path or "."]
        return [
            found for one in document for found in undeclared(one, declared[0], path=f"{path}[]")
        ]
    return [] if isinstance(document, declared) else [path or "."]


def blob_arrays(blobs: Mapping[str, bytes]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Every array in the blobs of a message: those of safetensors files, else the raw bytes."""
    for name, blob in blobs.items():
        try:
            arrays, metadata = arrays_from_bytes(blob)
        except EchoFedError:
            yield name, np.frombuffer(blob, dtype=np.uint8)
            continue
        yield f"{name}.metadata", np.frombuffer(json.dumps(metadata).encode(), dtype=np.uint8)
        for key, array in arrays.items():
            yield f"{name}.{key}", array


def picture_likeness(array: NDArray[Any], frames_NHW: Sequence[NDArray[np.uint8]]) -> float:
    """How much like one of the site's frames an array is, 0 to 1.

    Rows whose length is a square of a usual picture size are compared with every frame at that
    size; besides, the bytes are searched for a piece of every frame at its own size, whatever their
    type and shape.

    Args:
        array: anything that left.
        frames_NHW: the local frames.

    Returns:
        The largest absolute correlation found.
    """
    return max([0.0, *_row_likeness(array, frames_NHW), *_stream_likeness(array, frames_NHW)])


def _undeclared_key(key: str, value: Any, declared: Mapping[str, Any], path: str) -> list[str]:
    here = f"{path}.{key}" if path else key
    if key in declared:
        return undeclared(value, declared[key], path=here)
    if "*" in declared:
        return undeclared(value, declared["*"], path=here)
    return [here]


def _row_likeness(array: NDArray[Any], frames_NHW: Sequence[NDArray[np.uint8]]) -> Iterator[float]:
    if not np.issubdtype(array.dtype, np.number) or array.size == 0:
        return
    for size in _SIZES:
        length = size * size
        if array.size % length or (array.ndim > 1 and not _ends_with(array.shape, length)):
            continue
        rows_ND = _standard(array.reshape(-1, length))
        pictures_ND = _standard(np.stack([_shrink(frame, size).ravel() for frame in frames_NHW]))
        yield float(np.abs(rows_ND @ pictures_ND.T).max() / length)


def _stream_likeness(
    array: NDArray[Any], frames_NHW: Sequence[NDArray[np.uint8]]
) -> Iterator[float]:
    raw = np.ascontiguousarray(array).tobytes()
    for kind in _STREAMS:
        width = np.dtype(kind).itemsize
        if len(raw) < width * _TEMPLATE:
            continue
        stream = _tame(np.frombuffer(raw[: len(raw) // width * width], dtype=kind))
        spread = _window_spread(stream)
        for frame in frames_NHW:
            yield _best_match(stream, spread, frame)


def _tame(numbers: NDArray[Any]) -> NDArray[np.float64]:
    """Numbers read under a wrong type span a thousand decades; bring them into [-1, 1]."""
    with np.errstate(invalid="ignore", over="ignore"):
        stream = np.nan_to_num(numbers.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    top = float(np.quantile(np.abs(stream), 0.99)) or 1.0
    return np.clip(stream, -top, top) / top


def _window_spread(stream: NDArray[np.float64]) -> NDArray[np.float64]:
    """Norm of every window of the template's length about its own mean."""
    sums, squares = (np.concatenate([[0.0], np.cumsum(values)]) for values in (stream, stream**2))
    total = sums[_TEMPLATE:] - sums[:-_TEMPLATE]
    power = squares[_TEMPLATE:] - squares[:-_TEMPLATE]
    return np.asarray(np.sqrt(np.maximum(power - total**2 / _TEMPLATE, 0.0)))


def _best_match(
    stream: NDArray[np.float64], spread: NDArray[np.float64], frame: NDArray[np.uint8]
) -> float:
    """Largest absolute correlation of any window of the stream with the middle of the frame."""
    middle = frame.size // 2
    piece = frame.ravel()[max(middle - _TEMPLATE // 2, 0) :][:_TEMPLATE].astype(np.float64)
    piece = piece - piece.mean()
    norm = float(np.linalg.norm(piece))
    if piece.size < _TEMPLATE or norm == 0.0:
        return 0.0
    match = oaconvolve(stream, piece[::-1], mode="valid")
    score = np.where(spread > _FLAT, np.abs(match) / (np.maximum(spread, _FLAT) * norm), 0.0)
    return float(min(score.max(), 1.0))


def _ends_with(shape: tuple[int, ...], length: int) -> bool:
    return shape[-1] == length or shape[-1] * shape[-2] == length


def _standard(rows_ND: NDArray[Any]) -> NDArray[np.float64]:
    rows = np.nan_to_num(rows_ND.astype(np.float64))
    rows = rows - rows.mean(axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(rows.std(axis=1, keepdims=True), 1e-12))


def _shrink(frame_HW: NDArray[np.uint8], size: int) -> NDArray[np.float64]:
    """The frame at size x size by averaging over cells (nearest cell where it is smaller)."""
    rows = np.linspace(0, frame_HW.shape[0], size + 1).astype(int)
    columns = np.linspace(0, frame_HW.shape[1], size + 1).astype(int)
    table = np.zeros((frame_HW.shape[0] + 1, frame_HW.shape[1] + 1))
    table[1:, 1:] = frame_HW.astype(np.float64).cumsum(0).cumsum(1)
    top, bottom = rows[:-1], np.maximum(rows[1:], rows[:-1] + 1).clip(max=frame_HW.shape[0])
    left, right = (
        columns[:-1],
        np.maximum(columns[1:], columns[:-1] + 1).clip(max=frame_HW.shape[1]),
    )
    sums = (
        table[np.ix_(bottom, right)]
        - table[np.ix_(top, right)]
        - table[np.ix_(bottom, left)]
        + table[np.ix_(top, left)]
    )
    area = np.outer(np.maximum(bottom - top, 1), np.maximum(right - left, 1))
    return np.asarray(sums / area)
