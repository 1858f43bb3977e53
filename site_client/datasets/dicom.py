"""Ultrasound DICOM, multi-frame or single, grey or colour, compressed or not, read as a grey clip.

References: DICOM PS3.3 C.8.5.5 (ultrasound region calibration), C.7.6.3 (pixels), C.7.6.5 (cine).
"""

import io
import logging
import struct
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataset import FileDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.pixels import apply_color_lut, get_decoder

from shared.echo.detection import Region
from shared.echo.frame import MillimetresPerPixel
from shared.errors import Code, EchoFedError
from site_client.datasets.raw import (
    MAX_BYTES,
    RawClip,
    RawHeader,
    identity_of,
    read_bytes,
    unreadable,
)

_SUFFIXES = {".dcm", ".dicom", ".ima"}
_SPATIAL_2D = 1  # PS3.3 C.8.5.5.1.1
_TISSUE = {1, 2}  # PS3.3 C.8.5.5.1.2: tissue, colour flow
_CENTIMETRES = 3  # PS3.3 C.8.5.5.1.15
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as in YBR_FULL
_KINDS = {
    "PN": "names", "DA": "dates", "TM": "dates", "DT": "dates", "UI": "uids", "LO": "text",
    "SH": "text", "ST": "text", "LT": "text", "UT": "text", "UC": "text", "AS": "text",
}  # fmt: skip
_KEPT = {"PixelData", "Rows", "Columns", "FrameTime", "Modality", "SequenceOfUltrasoundRegions"}
_FAULTS = (
    ArithmeticError, AttributeError, BytesLengthException, EOFError, InvalidDicomError, LookupError,
    MemoryError,
    OSError, RuntimeError, StopIteration, TypeError, ValueError, struct.error, zlib.error,
)  # fmt: skip
"""What the foreign library raises on damaged files; found by damaging files."""


class DicomSource:
    """Files with the DICOM prefix or suffix."""

    def recognises(self, path: Path) -> bool:
        """Tell by suffix, or by the four letters after the preamble."""
        if path.name.upper() == "DICOMDIR":
            return False
        if path.suffix.lower() in _SUFFIXES:
            return True
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"

    def read(self, path: Path) -> bytes:
        """Read the file."""
        return read_bytes(path)

    def open(self, data: bytes) -> "DicomFile":
        """Parse the header.

        Raises:
            EchoFedError: DATA_UNREADABLE, PIXELS_MISSING or FRAMES_MISSING.
        """
        with _reading_door():
            dataset = dcmread(io.BytesIO(data))
            if "SOPClassUID" not in dataset and "Rows" not in dataset:
                raise unreadable("is cut off in its header")
            if "PixelData" not in dataset or "Rows" not in dataset:
                raise EchoFedError(
                    Code.PIXELS_MISSING,
                    "a file holds no pixel data",
                    "it is a report or a directory, or was cut off; leave it out",
                )
            frames = dataset.get("NumberOfFrames", 1)
            if frames in (0, "0") or not (dataset.PixelData and dataset.Rows and dataset.Columns):
                raise EchoFedError(
                    Code.FRAMES_MISSING, "a file holds no frame", "export the clip again"
                )
            return DicomFile(dataset)


SOURCE = DicomSource()


class DicomFile:
    """A parsed file; every method may meet a damaged element."""

    def __init__(self, dataset: FileDataset) -> None:
        """Keep what ``DicomSource.open`` parsed."""
        self._dataset = dataset

    def header(self) -> RawHeader:
        """Patient and what will be removed.

        A file without a patient id belongs to its study; without either, to one unknown patient.
        """
        with _reading_door():
            patient = str(self._dataset.get("PatientID") or "").strip()
            issuer = str(self._dataset.get("IssuerOfPatientID") or "").strip()
            study = str(self._dataset.get("StudyInstanceUID") or "").strip()
            key = identity_of(patient, issuer) if patient else f"study {study}"
            return RawHeader(key, _count_removed(self._dataset))

    def clip(self) -> RawClip:
        """Decode the pixels as grey and read the calibration.

        Raises:
            EchoFedError: DATA_UNREADABLE where the pixels do not decode.
        """
        with _reading_door():
            pixels_THW = _grey_frames(self._dataset)
            regions, spacing = _regions(self._dataset, pixels_THW.shape[1:])
            return RawClip(pixels_THW, regions, spacing, _frame_time_ms(self._dataset))


@contextmanager
def _reading_door() -> Iterator[None]:
    """Here, and only here, a strange file is data: warnings are dropped, faults get a code.

    The library's own log is silent too: it quotes the values of damaged elements.
    """
    library = logging.getLogger("pydicom")
    level = library.level
    library.setLevel(logging.CRITICAL + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except _FAULTS as error:
            raise unreadable(f"does not decode ({type(error).__name__})") from None
        finally:
            library.setLevel(level)


def _count_removed(dataset: FileDataset) -> dict[str, int]:
    kinds: Counter[str] = Counter()
    for tag in dataset.keys():  # noqa: SIM118 - iterating the dataset itself would decode every element
        if tag.is_private:
            kinds["private"] += 1
        elif not dictionary_has_tag(tag):
            kinds["other"] += 1
        else:
            kinds[_KINDS.get(dictionary_VR(tag), "other")] += 1
    kinds["other"] -= sum(keyword in dataset for keyword in _KEPT)
    return {kind: count for kind, count in sorted(kinds.items()) if count > 0}


def _grey_frames(dataset: FileDataset) -> NDArray[np.uint8]:
    """All frames as uint8 grey (T, H, W)."""
    frames = int(dataset.get("NumberOfFrames") or 1)
    samples = int(dataset.get("SamplesPerPixel", 1))
    depth = int(dataset.BitsAllocated) // 8
    if frames * dataset.Rows * dataset.Columns * samples * depth > MAX_BYTES:
        raise unreadable("claims more pixels than can be read")
    array, meta = get_decoder(dataset.file_meta.TransferSyntaxUID).as_array(dataset, raw=True)
    array = array.reshape(frames, dataset.Rows, dataset.Columns, -1)
    colour = str(meta["photometric_interpretation"])
    if colour == "PALETTE COLOR":
        grey: NDArray[np.uint8] = _palette_grey(dataset)[array[..., 0]]
        return grey
    if array.shape[-1] == 1:
        return _grey_levels(array[..., 0], dataset)
    if colour.startswith("YBR_FULL"):
        return np.ascontiguousarray(_to_bytes(array[..., 0], dataset))
    return _luma(_to_bytes(array, dataset))


def _palette_grey(dataset: FileDataset) -> NDArray[np.uint8]:
    """Grey value of every palette index."""
    bits = int(dataset.BitsAllocated)
    indices = np.arange(1 << bits, dtype=np.uint16 if bits > 8 else np.uint8)
    rgb = apply_color_lut(indices[None], dataset)[0]
    if rgb.dtype != np.uint8:
        rgb = (rgb >> 8).astype(np.uint8)
    return _luma(rgb)


def _luma(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Brightness of colours, integer arithmetic in 1/256 steps."""
    red, green, blue = (rgb[..., channel].astype(np.uint16) for channel in range(3))
    weights = np.rint(_LUMA * 256).astype(np.uint16)
    grey = (red * weights[0] + green * weights[1] + blue * weights[2] + 128) >> 8
    return np.asarray(grey, dtype=np.uint8)


def _grey_levels(array: NDArray[Any], dataset: FileDataset) -> NDArray[np.uint8]:
    """One-channel values as bytes, dark is low."""
    grey = _to_bytes(array, dataset)
    return 255 - grey if dataset.PhotometricInterpretation == "MONOCHROME1" else grey


def _to_bytes(array: NDArray[Any], dataset: FileDataset) -> NDArray[np.uint8]:
    """Scale the stored bits to 8; signed values are moved up first."""
    bits = int(dataset.BitsStored)
    if dataset.PixelRepresentation == 1:
        array = array.astype(np.int32) + (1 << (bits - 1))
    if bits == 8 and array.dtype == np.uint8:
        return np.asarray(array, dtype=np.uint8)
    wide = array.astype(np.uint32) & ((1 << bits) - 1)
    return (wide >> (bits - 8) if bits > 8 else wide << (8 - bits)).astype(np.uint8)


def _regions(
    dataset: FileDataset, size_HW: tuple[int, ...]
) -> tuple[tuple[Region, ...], MillimetresPerPixel | None]:
    """The 2-D tissue regions, largest first, and the spacing of the first.

    One region that does not lie on the screen makes all of them unbelievable: the picture was
    resized or cut after calibration.
    """
    found: list[tuple[Region, MillimetresPerPixel | None]] = []
    for item in dataset.get("SequenceOfUltrasoundRegions") or ():
        if item.RegionSpatialFormat != _SPATIAL_2D or item.RegionDataType not in _TISSUE:
            continue
        region = _region(item, size_HW)
        if region is None:
            return (), None
        found.append((region, _spacing(item)))
    found.sort(key=lambda pair: -pair[0].area())
    return tuple(region for region, _ in found), found[0][1] if found else None


def _region(item: Any, size_HW: tuple[int, ...]) -> Region | None:
    """Half-open rectangle of a region; some scanners write the size as the last index."""
    row_0, row_1 = int(item.RegionLocationMinY0), int(item.RegionLocationMaxY1)
    column_0, column_1 = int(item.RegionLocationMinX0), int(item.RegionLocationMaxX1)
    if row_1 < row_0 or column_1 < column_0:
        raise EchoFedError(
            Code.SECTOR_EMPTY, "a file declares a 2-D region without area", "export it again"
        )
    if row_1 > size_HW[0] or column_1 > size_HW[1]:
        return None
    return Region(row_0, min(row_1 + 1, size_HW[0]), column_0, min(column_1 + 1, size_HW[1]))


def _spacing(item: Any) -> MillimetresPerPixel | None:
    units = (item.get("PhysicalUnitsYDirection"), item.get("PhysicalUnitsXDirection"))
    if units != (_CENTIMETRES, _CENTIMETRES):
        return None
    rows_mm = abs(float(item.PhysicalDeltaY)) * 10
    columns_mm = abs(float(item.PhysicalDeltaX)) * 10
    is_sane = 0 < rows_mm < 10 and 0 < columns_mm < 10
    return (rows_mm, columns_mm) if is_sane else None


def _frame_time_ms(dataset: FileDataset) -> float | None:
    """Frame time, or the inverse of the cine rate; None for a still or an unbelievable value."""
    if int(dataset.get("NumberOfFrames") or 1) < 2:
        return None
    time_ms = float(dataset.get("FrameTime") or 0.0)
    if not time_ms and dataset.get("CineRate"):
        time_ms = 1000.0 / float(dataset.CineRate)
    return time_ms if 0 < time_ms < 10_000 else None
