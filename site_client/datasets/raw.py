"""A clip as its source wrote it, identity and all; it lives in memory only, until ``deidentify`` has seen it."""

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
        removed: header elements by kind (names, dates, uids, text, private, other) that will not be kept.
    """

    patient: str
    removed: Mapping[str, int]


@dataclass(frozen=True, slots=True, eq=False)
class RawClip:
    """Pixels and the few header facts that matter.

    Args:
        pixels_THW: uint8 grey, the whole screen.
        regions: the scanner's 2-D tissue regions, largest first; empty where none is declared or believable.
        mm_per_pixel: spacing of (rows, columns) in the first region.
        frame_time_ms: time between frames.
    """

    pixels_THW: NDArray[np.uint8]
    regions: tuple[Region, ...]
    mm_per_pixel: MillimetresPerPixel | None
    frame_time_ms: float | None


class RawFile(Protocol):
    """One opened file; what cannot be read raises an EchoFedError of the thirties without naming the file."""

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
