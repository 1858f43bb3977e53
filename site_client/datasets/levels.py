"""Grey levels of any stored kind as bytes, and bytes unpacked to a limit."""

import zlib

import numpy as np
from numpy.typing import NDArray

_WHITE = 255
_TINY = 1e-9  # a clip of one level divides by this and stays black


def grey_bytes(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Levels as uint8: bytes stay, values that fit are rounded, all others are stretched.

    Fractions up to one count as shares of white. What does not fit is stretched from the lowest to
    the highest value of the whole clip, so frames stay comparable.

    Raises:
        ValueError: for anything but finite real numbers.
    """
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values, dtype=np.uint8)
    if values.dtype.kind not in "iuf":
        raise ValueError("not real numbers")
    levels = values.astype(np.float32)
    low, high = float(levels.min()), float(levels.max())
    if not np.isfinite([low, high]).all():
        raise ValueError("not finite")
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        levels *= _WHITE
    elif low < 0 or high > _WHITE:
        levels = (levels - low) * (_WHITE / max(high - low, _TINY))
    return np.rint(levels).astype(np.uint8)


def unpack(data: bytes, max_bytes: int, *, gzip: bool) -> bytes:
    """Decompressed bytes (zlib, or gzip's first member).

    Raises:
        ValueError: for more than the limit, or a stream that is cut off.
        zlib.error: for a damaged stream.
    """
    stream = zlib.decompressobj(zlib.MAX_WBITS | 16 if gzip else zlib.MAX_WBITS)
    unpacked = stream.decompress(data, max_bytes)
    if not stream.eof:
        raise ValueError("cut off, or more than can be read")
    return unpacked
