"""A clip as its source wrote it, identity and all; it lives in memory only."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shared.echo.detection import Region
from shared.echo.frame import MillimetresPerPixel


@dataclass(frozen=True, slots=True, eq=False)
class RawHeader:
    """What is known of a file before its pixels are decoded.

    Args:
        patient: the source's own patient id; identifies a person.
        removed: number of header elements that will not be kept, by kind.
    """

    patient: str
    removed: Mapping[str, int]


@dataclass(frozen=True, slots=True, eq=False)
class RawClip:
    """Pixels and the few header facts that matter.

    Args:
        pixels_THW: uint8 grey, the whole screen.
        regions: the scanner's 2-D tissue regions, largest first; empty where none is believable.
        mm_per_pixel: spacing of (rows, columns) in the first region.
        frame_time_ms: time between frames.
    """

    pixels_THW: NDArray[np.uint8]
    regions: tuple[Region, ...]
    mm_per_pixel: MillimetresPerPixel | None
    frame_time_ms: float | None


class RawFile(Protocol):
    """An opened file; what cannot be read raises an error of the thirties that does not name it."""

    def header(self) -> RawHeader:
        """The facts before decoding."""
        ...

    def clip(self) -> RawClip:
        """Decode the pixels."""
        ...


class Source(Protocol):
    """A kind of file."""

    def recognises(self, path: Path) -> bool:
        """Tell by name and first bytes whether the file is of this kind."""
        ...

    def open(self, data: bytes) -> RawFile:
        """Parse a file's bytes."""
        ...
