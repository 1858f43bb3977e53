"""Ultrasound DICOM, multi-frame or single, read as a grey clip with its regions, scale and time.

References: DICOM PS3.3 C.8.5.5 (ultrasound region calibration), 10.7.1.3 (pixel spacing), C.7.6.5
(cine), C.7.6.6 (multi-frame).
"""

import io
import logging
import struct
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from statistics import median
from typing import Any

from PIL import Image
from pydicom import dcmread
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataset import FileDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_partial
from pydicom.multival import MultiValue

from shared.echo.detection import Region
from shared.echo.frame import MillimetresPerPixel
from shared.errors import Code, EchoFedError
from site_client.datasets.dicom_pixels import read_pixels
from site_client.datasets.raw import (
    Mode,
    RawClip,
    RawHeader,
    identity_of,
    read_bytes,
    unreadable,
)

_SUFFIXES = {".dcm", ".dicom", ".ima"}
_INSTANCE = 0x00080018  # SOPInstanceUID
_MODALITIES = {"US", "IVUS", "OT", ""}  # OT: screens that another device captured
_SPATIAL_2D = 1  # PS3.3 C.8.5.5.1.1
_TISSUE: dict[int, Mode] = {1: "b_mode", 2: "colour"}  # PS3.3 C.8.5.5.1.2, by data type
_TRACES: dict[int, Mode] = {2: "m_mode", 3: "spectral"}  # PS3.3 C.8.5.5.1.1, by spatial format
_CENTIMETRES = 3  # PS3.3 C.8.5.5.1.15
_KINDS = {
    "PN": "names", "DA": "dates", "TM": "dates", "DT": "dates", "UI": "uids", "LO": "text",
    "SH": "text", "ST": "text", "LT": "text", "UT": "text", "UC": "text", "AS": "text",
}  # fmt: skip
_KEPT = {
    "PixelData", "Rows", "Columns", "FrameTime", "FrameTimeVector", "Modality", "PixelSpacing",
    "SequenceOfUltrasoundRegions",
}  # fmt: skip
_FAULTS = (
    ArithmeticError, AttributeError, BytesLengthException, EOFError, InvalidDicomError, LookupError,
    MemoryError, OSError, RuntimeError, StopIteration, SyntaxError, TypeError, ValueError,
    Image.DecompressionBombError, struct.error, zlib.error,
)  # fmt: skip
"""What the foreign libraries raise on damaged files; found by damaging files."""


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
            EchoFedError: DATA_UNREADABLE, PIXELS_MISSING, FRAMES_MISSING, or SECTOR_EMPTY for what
                is no ultrasound.
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
            if str(dataset.get("Modality") or "").strip().upper() not in _MODALITIES:
                raise EchoFedError(
                    Code.SECTOR_EMPTY,
                    "a file is of another modality than ultrasound",
                    "leave it out; a folder may hold whole studies",
                )
            frames = dataset.get("NumberOfFrames", 1)
            if frames in (0, "0") or not (dataset.PixelData and dataset.Rows and dataset.Columns):
                raise EchoFedError(
                    Code.FRAMES_MISSING, "a file holds no frame", "export the clip again"
                )
            return DicomFile(dataset)


SOURCE = DicomSource()


def instance_of(path: Path) -> str:
    """SOP Instance UID of a file, read without what follows it; empty where there is none."""
    try:
        with _reading_door(), path.open("rb") as file:
            head = read_partial(file, stop_when=lambda tag, _vr, _length: tag > _INSTANCE)
            return str(head.get("SOPInstanceUID") or "").strip()
    except EchoFedError:
        return ""


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
            # PS3.3 C.12.1.1
            is_synthetic = str(self._dataset.get("SyntheticData") or "").strip().upper() == "YES"
            removed = _count_removed(self._dataset)
            return RawHeader(key, removed, study, _day(self._dataset), is_synthetic)

    def original(self) -> FileDataset:
        """The file as it came, identity and all: for clinical objects of the same archive only."""
        return self._dataset

    def clip(self) -> RawClip:
        """Decode the pixels as grey and read the calibration.

        Raises:
            EchoFedError: DATA_UNREADABLE where the pixels do not decode.
        """
        with _reading_door():
            pixels_THW, colours = read_pixels(self._dataset)
            seen = _regions(self._dataset, pixels_THW.shape[1:])
            return RawClip(
                pixels_THW,
                regions=tuple(region for region, _ in seen.tissue),
                mm_per_pixel=_spacing(self._dataset, seen),
                frame_time_ms=_frame_time_ms(self._dataset),
                declared=seen.declared,
                traces=seen.traces,
                colours=colours,
            )


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


def _day(dataset: FileDataset) -> date | None:
    """Day of the study; a date that no calendar has is none."""
    try:
        return datetime.strptime(str(dataset.get("StudyDate") or ""), "%Y%m%d").date()  # noqa: DTZ007 - a day has no zone
    except ValueError:
        return None


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


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the region tags say.

    Args:
        tissue: 2-D regions with their spacing, largest first.
        traces: regions of spectra and M-mode.
        declared: modes of all these regions.
    """

    tissue: tuple[tuple[Region, MillimetresPerPixel | None], ...] = ()
    traces: tuple[Region, ...] = ()
    declared: frozenset[Mode] = frozenset()


def _regions(dataset: FileDataset, size_HW: tuple[int, ...]) -> _Seen:
    """Read the region tags.

    One region that does not lie on the screen makes all of them unbelievable: the picture was
    resized or cut after calibration.
    """
    tissue: list[tuple[Region, MillimetresPerPixel | None]] = []
    traces: list[Region] = []
    declared: set[Mode] = set()
    for item in dataset.get("SequenceOfUltrasoundRegions") or ():
        mode = _mode(item)
        if mode is None:
            continue
        region = _region(item, size_HW)
        if region is None:
            return _Seen()
        declared.add(mode)
        if item.RegionSpatialFormat == _SPATIAL_2D:
            tissue.append((region, _calibration(item)))
        else:
            traces.append(region)
    tissue.sort(key=lambda pair: -pair[0].area())
    return _Seen(tuple(tissue), tuple(traces), frozenset(declared))


def _mode(item: Any) -> Mode | None:
    """What a region shows; None for physiological traces, grey bars and the like."""
    if item.RegionSpatialFormat == _SPATIAL_2D:
        return _TISSUE.get(item.RegionDataType)
    return _TRACES.get(item.RegionSpatialFormat)


def _region(item: Any, size_HW: tuple[int, ...]) -> Region | None:
    """Half-open rectangle of a region; some scanners write the size as the last index."""
    row_0, row_1 = int(item.RegionLocationMinY0), int(item.RegionLocationMaxY1)
    column_0, column_1 = int(item.RegionLocationMinX0), int(item.RegionLocationMaxX1)
    if row_1 < row_0 or column_1 < column_0:
        raise EchoFedError(
            Code.SECTOR_EMPTY, "a file declares a region without area", "export it again"
        )
    if row_1 > size_HW[0] or column_1 > size_HW[1]:
        return None
    return Region(row_0, min(row_1 + 1, size_HW[0]), column_0, min(column_1 + 1, size_HW[1]))


def _spacing(dataset: FileDataset, seen: _Seen) -> MillimetresPerPixel | None:
    """Spacing of the largest tissue region, else that of the whole picture, else None."""
    calibration = seen.tissue[0][1] if seen.tissue else None
    spacing: Any = dataset.get("PixelSpacing")
    if calibration is not None or not spacing:
        return calibration
    return _sane(float(spacing[0]), float(spacing[1]))


def _calibration(item: Any) -> MillimetresPerPixel | None:
    units = (item.get("PhysicalUnitsYDirection"), item.get("PhysicalUnitsXDirection"))
    if units != (_CENTIMETRES, _CENTIMETRES):
        return None
    return _sane(abs(float(item.PhysicalDeltaY)) * 10, abs(float(item.PhysicalDeltaX)) * 10)


def _sane(rows_mm: float, columns_mm: float) -> MillimetresPerPixel | None:
    return (rows_mm, columns_mm) if 0 < rows_mm < 10 and 0 < columns_mm < 10 else None


def _frame_time_ms(dataset: FileDataset) -> float | None:
    """Time between frames, from the first element that has a believable one; None for a still.

    A vector of times begins with a zero; where they differ, the median counts.
    """
    if int(dataset.get("NumberOfFrames") or 1) < 2:
        return None
    vector: Any = dataset.get("FrameTimeVector")
    steps = [float(step) for step in vector[1:]] if isinstance(vector, MultiValue) else []
    rates = (float(dataset.get(name) or 0) for name in ("CineRate", "RecommendedDisplayFrameRate"))
    times_ms = [
        float(dataset.get("FrameTime") or 0),
        median(steps) if steps else 0.0,
        *(1000 / rate if rate > 0 else 0.0 for rate in rates),
    ]
    return next((time_ms for time_ms in times_ms if 0 < time_ms < 10_000), None)
