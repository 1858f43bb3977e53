"""Label maps as NumPy's .npz, which may name its structures, frames and landmarks itself.

``labels_THW``, or ``labels_HW`` of a single picture; and where they are known ``structures``
(names, background first), ``frames`` (of the clip, from zero; all of them where it is absent) and
``landmarks_xy_px_T32`` (column, row) of base left, apex, base right. Other arrays are not read.
"""

import io
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.echo.annotation import LANDMARKS
from site_client.datasets.beside import RawLabels
from site_client.datasets.raw import MAX_BYTES, read_bytes, unreadable

_NAMES = {"labels_THW", "labels_HW", "structures", "frames", "landmarks_xy_px_T32"}
_FAULTS = (
    zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, TypeError, MemoryError,
    LookupError, ArithmeticError, SyntaxError, NotImplementedError, RuntimeError,
)  # fmt: skip
"""What the foreign libraries raise on damaged files."""


def read(path: Path) -> RawLabels:
    """The maps with all that the file says of them; objects that would run code are refused.

    Raises:
        EchoFedError: DATA_UNREADABLE.
    """
    data = read_bytes(path)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            if sum(member.file_size for member in packed.infolist()) > MAX_BYTES:
                raise ValueError("more than can be read")
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return _labels({name: arrays[name] for name in _NAMES & set(arrays.files)})
    except _FAULTS as error:
        raise unreadable(f"has an annotation that is no .npz ({type(error).__name__})") from None


def _labels(arrays: dict[str, NDArray[np.generic]]) -> RawLabels:
    labels_FHW = arrays["labels_THW"] if "labels_THW" in arrays else arrays["labels_HW"][None]
    num = len(labels_FHW)
    frames = arrays.get("frames", np.arange(num))
    landmarks = arrays.get("landmarks_xy_px_T32")
    if labels_FHW.ndim != 3 or frames.shape != (num,) or frames.dtype.kind not in "iu":
        raise ValueError("frames that do not fit the maps")
    if landmarks is not None and landmarks.shape != (num, len(LANDMARKS), 2):
        raise ValueError("landmarks that do not fit the maps")
    return RawLabels(
        labels_FHW,
        tuple(str(name) for name in arrays.get("structures", np.empty(0))),
        tuple(map(int, frames)) if "frames" in arrays else None,
        None if landmarks is None else landmarks.astype(np.float64),
    )
