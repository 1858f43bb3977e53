"""NIfTI pictures and sequences (.nii, .nii.gz), as research sets keep them.

The first axis runs right, the second down, as CAMUS is written. The orientation matrix is not
used: an ultrasound picture has no patient axes, and what stands there is the writer's habit.
"""

import logging
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.imageglobals import logger as library
from nibabel.spatialimages import HeaderDataError, ImageDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from shared.echo.frame import MillimetresPerPixel
from site_client.datasets.levels import grey_bytes, unpack
from site_client.datasets.raw import MAX_BYTES, RawClip, SuffixSource, unreadable

_GZIP = b"\x1f\x8b"
_HEADER_OF_2 = {b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c"}  # 540, the size of a NIfTI-2 header
_MM = {"meter": 1000.0, "mm": 1.0, "micron": 0.001}
_MS = {"sec": 1000.0, "msec": 1.0, "usec": 0.001}
_FAULTS = (
    ImageFileError, HeaderDataError, ImageDataError, WrapStructError, zlib.error, OSError, EOFError,
    ValueError, TypeError, MemoryError, ArithmeticError, LookupError, AttributeError,
)  # fmt: skip
"""What the foreign library raises on damaged files."""


def _clip(data: bytes) -> RawClip:
    """Frames along the third axis, or along the fourth where the third is one; spacing in mm.

    Raises:
        EchoFedError: DATA_UNREADABLE, also for volumes and for colours.
    """
    with _reading_door():
        image = _image(data)
        return RawClip(grey_bytes(_values(image)), (), _spacing(image.header), _time_ms(image))


def read_values(data: bytes) -> NDArray[np.generic]:
    """The values themselves (T, H, W), such as those of label maps.

    Raises:
        EchoFedError: DATA_UNREADABLE.
    """
    with _reading_door():
        return _values(_image(data))


def _image(data: bytes) -> Any:
    if data[:2] == _GZIP:
        data = unpack(data, MAX_BYTES, gzip=True)
    kind = nibabel.Nifti2Image if data[:4] in _HEADER_OF_2 else nibabel.Nifti1Image
    return kind.from_bytes(data)


@contextmanager
def _reading_door() -> Iterator[None]:
    """Here a strange file is data: warnings and the library's own log are dropped."""
    level = library.level
    library.setLevel(logging.CRITICAL + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except _FAULTS as error:
            raise unreadable(f"does not decode as NIfTI ({type(error).__name__})") from None
        finally:
            library.setLevel(level)


def _values(image: Any) -> NDArray[np.generic]:
    """Values (T, H, W)."""
    shape = (*image.shape, 1, 1)
    if len(image.shape) < 2 or 0 in shape or np.prod(shape[2:]) != max(shape[2:]):
        raise ValueError("neither a picture nor a sequence of pictures")
    if np.prod(shape, dtype=float) * image.get_data_dtype().itemsize > MAX_BYTES:
        raise ValueError("more than can be read")
    values: NDArray[np.generic] = np.asanyarray(image.dataobj)
    return values.reshape(*shape[:2], -1, order="F").transpose(2, 1, 0)


def _spacing(header: Any) -> MillimetresPerPixel | None:
    unit = _MM.get(header.get_xyzt_units()[0], 1.0)
    columns_mm, rows_mm = (float(zoom) * unit for zoom in header.get_zooms()[:2])
    is_sane = 0 < rows_mm < 10 and 0 < columns_mm < 10
    return (rows_mm, columns_mm) if is_sane else None


def _time_ms(image: Any) -> float | None:
    """Time between frames, known where time is an axis of its own."""
    unit = _MS.get(image.header.get_xyzt_units()[1])
    if len(image.shape) < 4 or image.shape[3] < 2 or unit is None:
        return None
    time_ms = float(image.header.get_zooms()[3]) * unit
    return time_ms if 0 < time_ms < 10_000 else None


SOURCE = SuffixSource((".nii", ".nii.gz"), _clip)
