"""Single pictures (PNG, JPEG, BMP, TIFF), as figures, galleries and old archives keep them.

A picture file says nothing of a patient: unless the labels name one, each is a patient of its own.
"""

import io
import warnings

import numpy as np
from PIL import Image, UnidentifiedImageError

from site_client.datasets.modes import chroma_of, thinned
from site_client.datasets.raw import Chroma, RawClip, SuffixSource, unreadable

_FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
_MAX_PIXELS = 64 << 20  # more is no ultrasound screen
_FAULTS = (
    OSError, SyntaxError, ValueError, MemoryError, ArithmeticError, LookupError,
    UnidentifiedImageError, Image.DecompressionBombError,
)  # fmt: skip
"""What the foreign library raises on damaged files."""


def _clip(data: bytes) -> RawClip:
    """One grey frame, colours by ITU-R BT.601; no region and no scale are known.

    Raises:
        EchoFedError: DATA_UNREADABLE.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=_FORMATS) as picture:
                if picture.width * picture.height > _MAX_PIXELS:
                    raise ValueError("too large")
                pixels_HW = np.asarray(_grey(picture))
                colours = _colours(picture)
    except _FAULTS as error:
        raise unreadable(f"does not decode as a picture ({type(error).__name__})") from None
    return RawClip(pixels_HW[None], (), None, None, colours=colours)


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


def _colours(picture: Image.Image) -> dict[int, Chroma]:
    """Colours of the one frame; none of a grey picture."""
    if picture.mode in {"1", "L", "LA", "F"} or picture.mode.startswith("I"):
        return {}
    return {0: chroma_of(thinned(np.asarray(picture.convert("RGB"))))}


SOURCE = SuffixSource((".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"), _clip)
