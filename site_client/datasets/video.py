"""Videos (AVI, MP4, MOV) as grey clips, decoded frame by frame.

The container is told by its first bytes and nothing else is tried, so that a playlist in disguise
cannot make the library read other files.
"""

import io
from fractions import Fraction
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from shared.errors import Code, EchoFedError
from site_client.datasets.modes import chroma_of, thinned
from site_client.datasets.raw import MAX_BYTES, Chroma, RawClip, SuffixSource, unreadable

_WHOLE = (
    0.9  # share of the declared frames that must decode; containers differ by a few at the ends
)
_COLOURS_EVERY = 16  # frames; how many there are is not known before
_FAULTS = (
    av.FFmpegError, OSError, ValueError, MemoryError, ArithmeticError, LookupError, RuntimeError,
)  # fmt: skip
"""What the foreign library raises on damaged files."""


def _clip(data: bytes) -> RawClip:
    """All frames as grey, full range; no region and no scale are known.

    Raises:
        EchoFedError: DATA_UNREADABLE, also for a video of which a tenth or more is missing;
            FRAMES_MISSING.
    """
    try:
        with av.open(io.BytesIO(data), format=_container(data)) as container:
            pixels_THW, colours, declared, rate = _decode(container)
    except _FAULTS as error:
        raise unreadable(f"does not decode as video ({type(error).__name__})") from None
    if len(pixels_THW) < _WHOLE * declared:
        raise unreadable(f"is cut off: {len(pixels_THW)} of {declared} frames decode")
    time_ms = _frame_time_ms(rate, len(pixels_THW))
    return RawClip(pixels_THW, (), None, time_ms, colours=colours)


def _container(data: bytes) -> str:
    if data[:4] == b"RIFF" and data[8:12] == b"AVI ":
        return "avi"
    if data[4:8] in {b"ftyp", b"moov", b"mdat", b"wide", b"free"}:
        return "mov"
    raise ValueError("neither AVI nor MP4")


def _decode(
    container: Any,
) -> tuple[NDArray[np.uint8], dict[int, Chroma], int, Fraction | None]:
    """Frames (T, H, W), colours of some, number of frames declared (or 0) and frames a second."""
    if not container.streams.video:
        raise EchoFedError(
            Code.FRAMES_MISSING, "a file holds no moving picture", "export the clip again"
        )
    stream = container.streams.video[0]
    size_HW: tuple[int, ...] = ()
    buffer = bytearray()
    colours: dict[int, Chroma] = {}
    for place, frame in enumerate(container.decode(stream)):
        if frame.height * frame.width + len(buffer) > MAX_BYTES:
            raise unreadable("holds more pixels than can be read")
        grey_HW = frame.to_ndarray(format="gray")
        size_HW = size_HW or grey_HW.shape
        if grey_HW.shape != size_HW:
            raise ValueError("frames of several sizes")
        buffer += grey_HW.tobytes()
        if place % _COLOURS_EVERY == 0:
            colours[place] = chroma_of(thinned(frame.to_ndarray(format="rgb24")))
    if not buffer:
        raise EchoFedError(Code.FRAMES_MISSING, "a file holds no frame", "export the clip again")
    pixels_THW = np.frombuffer(buffer, dtype=np.uint8).reshape(-1, *size_HW)
    return pixels_THW, colours, int(stream.frames or 0), stream.average_rate


def _frame_time_ms(rate: Fraction | None, num_frames: int) -> float | None:
    """Time between frames; None for a still or an unbelievable value."""
    if num_frames < 2 or not rate:
        return None
    time_ms = float(1000 / rate)
    return time_ms if 0 < time_ms < 10_000 else None


SOURCE = SuffixSource((".avi", ".mp4", ".m4v", ".mov"), _clip)
