"""MetaImage (.mhd with a .raw or .zraw beside it, or .mha in one), read by an own small parser.

Header and pixels together are the file: they are joined to one with ``ElementDataFile = LOCAL``, so
that two headers of equal text are still two clips.
"""

import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.echo.frame import MillimetresPerPixel
from site_client.datasets.levels import grey_bytes, unpack
from site_client.datasets.raw import MAX_BYTES, RawClip, SuffixSource, read_bytes, unreadable

_MAX_HEADER = 1 << 16
_POINTER = "ElementDataFile"  # always the last line
_LOCAL = "LOCAL"
_TYPES = {
    "MET_UCHAR": "u1", "MET_CHAR": "i1", "MET_USHORT": "u2", "MET_SHORT": "i2", "MET_UINT": "u4",
    "MET_INT": "i4", "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
_FAULTS = (ValueError, TypeError, MemoryError, ArithmeticError, LookupError, zlib.error)


def _clip(data: bytes) -> RawClip:
    """Frames along the third axis; spacing in mm; the time between frames is not known.

    Raises:
        EchoFedError: DATA_UNREADABLE, also for volumes over time and for colours.
    """
    try:
        fields, packed = _split_header(data)
        return RawClip(grey_bytes(_values(fields, packed)), (), _spacing(fields), None)
    except _FAULTS as error:
        raise _damaged(error) from None


def read_values(data: bytes) -> NDArray[np.generic]:
    """The values themselves (T, H, W) of what ``collect`` gave, such as those of label maps.

    Raises:
        EchoFedError: DATA_UNREADABLE.
    """
    try:
        return _values(*_split_header(data))
    except _FAULTS as error:
        raise _damaged(error) from None


def collect(path: Path) -> bytes:
    """Read the header and the pixels it points at, in its own folder and nowhere else.

    Raises:
        EchoFedError: DATA_UNREADABLE.
    """
    data = read_bytes(path)
    try:
        fields, local = _split_header(data)
        pointer = fields[_POINTER]
    except _FAULTS as error:
        raise _damaged(error) from None
    if pointer == _LOCAL:
        return data
    beside = path.parent / pointer
    if pointer != beside.name or not beside.is_file():
        raise unreadable("points at pixels that are not beside it")
    header = data[: len(data) - len(local)]
    start = header.rindex(_POINTER.encode())
    return header[:start] + f"{_POINTER} = {_LOCAL}\n".encode() + read_bytes(beside)


def _damaged(error: Exception) -> Exception:
    return unreadable(f"does not decode as MetaImage ({type(error).__name__})")


def _split_header(data: bytes) -> tuple[dict[str, str], bytes]:
    """The header's fields and what follows its last line."""
    fields: dict[str, str] = {}
    start = 0
    while _POINTER not in fields:
        end = data.find(b"\n", start, _MAX_HEADER)
        if end < 0:
            end = min(len(data), _MAX_HEADER)
        name, is_field, value = data[start:end].decode("latin-1").partition("=")
        if not is_field:
            raise ValueError("a line without a value")
        fields[name.strip()] = value.strip()
        start = end + 1
    return fields, data[start:]


def _values(fields: dict[str, str], packed: bytes) -> NDArray[np.generic]:
    """Values (T, H, W)."""
    width, height, *deeper = (int(size) for size in fields["DimSize"].split())
    if min(width, height, *deeper) < 1 or len(deeper) > 1:
        raise ValueError("neither a picture nor a sequence of pictures")
    if int(fields.get("ElementNumberOfChannels", 1)) != 1:
        raise ValueError("colours")
    is_big = "true" in {
        fields.get(name, "").lower() for name in ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
    }
    kind = np.dtype(_TYPES[fields["ElementType"]]).newbyteorder(">" if is_big else "<")
    num_bytes = width * height * (deeper[0] if deeper else 1) * kind.itemsize
    if num_bytes > MAX_BYTES:
        raise ValueError("more than can be read")
    if fields.get("CompressedData", "").lower() == "true":
        packed = unpack(packed, num_bytes + 1, gzip=False)
    skipped = int(fields.get("HeaderSize", 0))
    body = packed[-num_bytes:] if skipped < 0 else packed[skipped:]
    if len(body) < num_bytes:
        raise ValueError("cut off")
    values: NDArray[np.generic] = np.frombuffer(body[:num_bytes], kind)
    return values.reshape(-1, height, width)


def _spacing(fields: dict[str, str]) -> MillimetresPerPixel | None:
    stated = fields.get("ElementSpacing") or fields.get("ElementSize") or "0 0"
    columns_mm, rows_mm = (float(size) for size in stated.split()[:2])
    is_sane = 0 < rows_mm < 10 and 0 < columns_mm < 10
    return (rows_mm, columns_mm) if is_sane else None


SOURCE = SuffixSource((".mhd", ".mha"), _clip, collect)
