"""Frames packed one by one with Zstandard: a third to a sixth of their size, each read alone.

How it compares with other containers stands in tests/bench/container.csv.
"""

import numpy as np
import zstandard
from numpy.typing import NDArray

from shared.errors import Code, EchoFedError

_LEVEL = 1  # 3 takes longer and saves little on speckle

Bytes = NDArray[np.uint8]


def pack_frames(pixels_THW: NDArray[np.uint8]) -> tuple[Bytes, NDArray[np.int64]]:
    """All frames one after the other, and where each one ends."""
    compressor = zstandard.ZstdCompressor(level=_LEVEL)
    packed = [compressor.compress(np.ascontiguousarray(frame).data) for frame in pixels_THW]
    ends_T = np.cumsum([len(frame) for frame in packed], dtype=np.int64)
    return np.frombuffer(b"".join(packed), dtype=np.uint8), ends_T


def unpack_frames(
    packed: Bytes, ends_T: NDArray[np.int64], size_HW: tuple[int, int]
) -> NDArray[np.uint8]:
    """The frames (T, H, W).

    Raises:
        EchoFedError: CHECKPOINT_CORRUPT.
    """
    pixels_THW = np.empty((len(ends_T), *size_HW), dtype=np.uint8)
    starts = [0, *ends_T[:-1].tolist()]
    for place, (start, end) in enumerate(zip(starts, ends_T.tolist(), strict=True)):
        pixels_THW[place] = unpack_frame(packed[start:end], size_HW)
    return pixels_THW


def unpack_frame(packed: Bytes, size_HW: tuple[int, int]) -> NDArray[np.uint8]:
    """One frame (H, W).

    Raises:
        EchoFedError: CHECKPOINT_CORRUPT.
    """
    data = packed.tobytes()
    try:
        if zstandard.frame_content_size(data) != size_HW[0] * size_HW[1]:
            raise ValueError("another size")  # before memory is taken for it
        frame = zstandard.ZstdDecompressor().decompress(data)
    except (zstandard.ZstdError, ValueError) as error:
        raise EchoFedError(
            Code.CHECKPOINT_CORRUPT, "a frame does not unpack", "ingest the dataset again"
        ) from error
    return np.frombuffer(frame, dtype=np.uint8).reshape(size_HW)
