"""A clip as its source wrote it, identity and all; it lives in memory only."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from shared.echo.annotation import Annotation
from shared.echo.detection import Region
from shared.echo.frame import MillimetresPerPixel
from shared.errors import Code, EchoFedError

MAX_BYTES = 4 << 30
"""Decoded size of a file; more is a damaged header, or needs cutting at the scanner."""

Mode = Literal["b_mode", "colour", "spectral", "m_mode"]
"""What a clip shows besides tissue: nothing, flow in colour, a Doppler spectrum, M-mode."""
Chroma = NDArray[np.int8]
"""Cb and Cr around zero of every second row and column of a frame, (H/2, W/2, 2)."""


@dataclass(frozen=True, slots=True, eq=False)
class RawHeader:
    """What is known of a file before its pixels are decoded.

    Args:
        patient: the source's own patient id; identifies a person.
        removed: number of header elements that will not be kept, by kind.
        study: the source's own study id, empty where there is none; identifies an examination.
        day: of the study, None where it is unknown.
        is_synthetic: whether the file says of itself that nobody was imaged.
    """

    patient: str
    removed: Mapping[str, int]
    study: str = ""
    day: date | None = None
    is_synthetic: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class RawClip:
    """Pixels and the few header facts that matter.

    Args:
        pixels_THW: uint8 grey, the whole screen.
        regions: the scanner's 2-D tissue regions, largest first; empty where none is believable.
        mm_per_pixel: spacing of (rows, columns) in the first region.
        frame_time_ms: time between frames.
        declared: what the believable regions say that the clip shows; empty where there are none.
        traces: regions of spectra and M-mode.
        colours: of a few frames, by their number; empty where the source is grey.
        annotation: what lies beside the file, on the same pixels; None where nothing does.
    """

    pixels_THW: NDArray[np.uint8]
    regions: tuple[Region, ...]
    mm_per_pixel: MillimetresPerPixel | None
    frame_time_ms: float | None
    declared: frozenset[Mode] = frozenset()
    traces: tuple[Region, ...] = ()
    colours: Mapping[int, Chroma] = field(default_factory=dict)
    annotation: Annotation | None = None


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

    def read(self, path: Path) -> bytes:
        """All bytes of a clip: the file's, and those of a file beside it that it points at."""
        ...

    def open(self, data: bytes) -> RawFile:
        """Parse what ``read`` gave."""
        ...


def read_bytes(path: Path) -> bytes:
    """The bytes of one file.

    Raises:
        EchoFedError: DATA_UNREADABLE without its name.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise EchoFedError(
            Code.DATA_UNREADABLE,
            f"a file cannot be opened ({type(error).__name__})",
            "check its path and permissions",
        ) from None


def unreadable(fault: str) -> EchoFedError:
    """The error of a damaged file; ``fault`` goes on after "a file"."""
    return EchoFedError(
        Code.DATA_UNREADABLE, f"a file {fault}", "export it again; the other files are not affected"
    )


def identity_of(patient: str, issuer: str = "") -> str:
    """What the pseudonym of a patient is made of: an id and who gave it."""
    return f"id {issuer} {patient}"


@dataclass(frozen=True, slots=True)
class SuffixSource:
    """Files told by their suffix, each a clip of a patient of its own.

    Args:
        suffixes: in small letters, with the dot.
        decode: what ``read`` gave -> the clip; raises an error of the thirties.
        collect: all bytes of a clip.
    """

    suffixes: tuple[str, ...]
    decode: Callable[[bytes], RawClip]
    collect: Callable[[Path], bytes] = read_bytes

    def recognises(self, path: Path) -> bool:
        """Tell by suffix."""
        return path.name.lower().endswith(self.suffixes)

    def read(self, path: Path) -> bytes:
        """Read the file and what it points at."""
        return self.collect(path)

    def open(self, data: bytes) -> "NamelessFile":
        """Keep the bytes until they are decoded."""
        return NamelessFile(data, self.decode)


@dataclass(frozen=True, slots=True, eq=False)
class NamelessFile:
    """A file that says nothing of a patient; its titles and comments are not kept or counted."""

    data: bytes
    decode: Callable[[bytes], RawClip]

    def header(self) -> RawHeader:
        """A patient of its own."""
        return RawHeader(f"picture {hashlib.sha256(self.data).hexdigest()}", {})

    def clip(self) -> RawClip:
        """Decode the pixels."""
        return self.decode(self.data)
