"""Videos (AVI, MP4, MOV) as grey clips, decoded frame by frame.

The container is told by its first bytes and nothing else is tried, so that a playlist in disguise
cannot make the library read other files.
"""

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from shared.errors import Code, EchoFedError
from site_client.datasets.raw import MAX_BYTES, RawClip, RawHeader, read_bytes, unnamed, unreadable

_SUFFIXES = {".avi", ".mp4", ".m4v", ".mov"}
_WHOLE = (
    0.9  # share of the declared frames that must decode; containers differ by a few at the ends
)
_FAULTS = (
    av.FFmpegError, OSError, ValueError, MemoryError, ArithmeticError, LookupError, RuntimeError,
)  # fmt: skip
"""What the foreign library raises on damaged files."""


class VideoSource:
    """Files with the suffix of a video."""

    def recognises(self, path: Path) -> bool:
        """Tell by suffix."""
        return path.suffix.lower() in _SUFFIXES

    def read(self, path: Path) -> bytes:
        """Read the file."""
        return read_bytes(path)

    def open(self, data: bytes) -> "VideoFile":
        """Keep the bytes until they are decoded."""
        return VideoFile(data)


SOURCE = VideoSource()


class VideoFile:
    """One video; it says nothing of a patient."""

    def __init__(self, data: bytes) -> None:
        """Keep the file."""
        self._data = data

    def header(self) -> RawHeader:
        """A patient of its own; titles and other tags are not kept and not counted."""
        return unnamed(self._data)

    def clip(self) -> RawClip:
        """All frames as grey, full range; no region and no scale are known.

        Raises:
            EchoFedError: DATA_UNREADABLE, also for a video of which a tenth or more is missing;
                FRAMES_MISSING.
        """
        try:
            with av.open(io.BytesIO(self._data), format=_container(self._data)) as container:
                pixels_THW, declared, rate = _decode(container)
        except _FAULTS as error:
            raise unreadable(f"does not decode as video ({type(error).__name__})") from None
        if len(pixels_THW) < _WHOLE * declared:
            raise unreadable(f"is cut off: {len(pixels_THW)} of {declared} frames decode")
        return RawClip(pixels_THW, (), None, _frame_time_ms(rate, len(pixels_THW)))


def _container(data: bytes) -> str:
    if data[:4] == b"RIFF" and data[8:12] == b"AVI ":
        return "avi"
    if data[4:8] in {b"ftyp", b"moov", b"mdat", b"wide", b"free"}:
        return "mov"
    raise ValueError("neither AVI nor MP4")


def _decode(container: Any) -> tuple[NDArray[np.uint8], int, Fraction | None]:
    """Frames (T, H, W), how many the container declares (0 if it does not) and frames a second."""
    if not container.streams.video:
        raise EchoFedError(
            Code.FRAMES_MISSING, "a file holds no moving picture", "export the clip again"
        )
    stream = container.streams.video[0]
    size_HW: tuple[int, ...] = ()
    buffer = bytearray()
    for frame in container.decode(stream):
        if frame.height * frame.width + len(buffer) > MAX_BYTES:
            raise unreadable("holds more pixels than can be read")
        grey_HW = frame.to_ndarray(format="gray")
        size_HW = size_HW or grey_HW.shape
        if grey_HW.shape != size_HW:
            raise ValueError("frames of several sizes")
        buffer += grey_HW.tobytes()
    if not buffer:
        raise EchoFedError(Code.FRAMES_MISSING, "a file holds no frame", "export the clip again")
    pixels_THW = np.frombuffer(buffer, dtype=np.uint8).reshape(-1, *size_HW)
    return pixels_THW, int(stream.frames or 0), stream.average_rate


def _frame_time_ms(rate: Fraction | None, num_frames: int) -> float | None:
    """Time between frames; None for a still or an unbelievable value."""
    if num_frames < 2 or not rate:
        return None
    time_ms = float(1000 / rate)
    return time_ms if 0 < time_ms < 10_000 else None
