"""One label map as a PNG whose grey levels, or places in the palette, are the values."""

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from site_client.datasets.beside import RawLabels
from site_client.datasets.raw import read_bytes, unreadable

_MODES = {"1", "L", "P", "I", "I;16"}
_MAX_PIXELS = 64 << 20  # as of pictures
_FAULTS = (
    OSError, SyntaxError, ValueError, MemoryError, ArithmeticError, LookupError,
    UnidentifiedImageError, Image.DecompressionBombError,
)  # fmt: skip
"""What the foreign library raises on damaged files."""


def read(path: Path) -> RawLabels:
    """The map of a single frame.

    Raises:
        EchoFedError: DATA_UNREADABLE, also for colours, which are no values.
    """
    data = read_bytes(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
                if picture.mode not in _MODES or picture.width * picture.height > _MAX_PIXELS:
                    raise ValueError("no values, or too large")
                return RawLabels(np.asarray(picture)[None])
    except _FAULTS as error:
        raise unreadable(
            f"has an annotation that is no PNG of values ({type(error).__name__})"
        ) from None
