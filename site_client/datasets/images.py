"""Single pictures (PNG, JPEG, BMP, TIFF), as figures, galleries and old archives keep them.

A picture file says nothing of a patient: unless the labels name one, each is a patient of its own.
"""

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from shared.errors import Code, EchoFedError
from site_client.datasets.raw import RawClip, RawHeader, read_bytes, unnamed

_FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}
_MAX_PIXELS = 64 << 20  # more is no ultrasound screen
_FAULTS = (
    OSError, SyntaxError, ValueError, MemoryError, ArithmeticError, LookupError,
    UnidentifiedImageError, Image.DecompressionBombError,
)  # fmt: skip
"""What the foreign library raises on damaged files."""


class ImageSource:
    """Files with the suffix of a picture."""

    def recognises(self, path: Path) -> bool:
        """Tell by suffix."""
        return path.suffix.lower() in _SUFFIXES

    def read(self, path: Path) -> bytes:
        """Read the file."""
        return read_bytes(path)

    def open(self, data: bytes) -> "ImageFile":
        """Keep the bytes until they are decoded."""
        return ImageFile(data)


SOURCE = ImageSource()


class ImageFile:
    """One picture."""

    def __init__(self, data: bytes) -> None:
        """Keep the file."""
        self._data = data

    def header(self) -> RawHeader:
        """A patient of its own; text chunks and EXIF are not kept and not counted."""
        return unnamed(self._data)

    def clip(self) -> RawClip:
        """One grey frame, colours by ITU-R BT.601; no region and no scale are known.

        Raises:
            EchoFedError: DATA_UNREADABLE.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with Image.open(io.BytesIO(self._data), formats=_FORMATS) as picture:
                    if picture.width * picture.height > _MAX_PIXELS:
                        raise ValueError("too large")
                    pixels_HW = np.asarray(_grey(picture))
        except _FAULTS as error:
            raise EchoFedError(
                Code.DATA_UNREADABLE,
                f"a picture does not decode ({type(error).__name__})",
                "export it again; the other files are not affected",
            ) from None
        return RawClip(pixels_HW[None], (), None, None)


def _grey(picture: Image.Image) -> Image.Image:
    """Eight bits of grey; sixteen are scaled, transparency is laid on black."""
    if picture.mode.startswith("I;16"):
        wide = np.asarray(picture).astype(np.uint32)
        return Image.fromarray((wide >> 8).astype(np.uint8))
    if "A" in picture.mode or "transparency" in picture.info:
        laid = Image.new("RGBA", picture.size, (0, 0, 0, 255))
        laid.alpha_composite(picture.convert("RGBA"))
        picture = laid
    return picture.convert("L")
