"""What a clinical object takes over from the file that was segmented, and who says that it made it.

These objects are for the hospital's own archive. They carry the source's patient, study and
references, as DICOM demands, so they are the one thing of a segmentation that names a patient:
they stay inside the walls, and no picture, document, log or message has anything of them.
"""

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import version
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from shared.errors import Code, EchoFedError
from site_client.segment.cine import ModelName, SegmentedCine

MANUFACTURER = "EchoFed"
MODEL_NAME = "EchoFed segmentation"

_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_MAY_BE_EMPTY = (  # type 2 of the patient and study modules, PS3.3 C.7.1.1 and C.7.2.1
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
    "StudyID", "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip
_SEXES = {"F", "M", "O", ""}
_BEFORE_PIXELS = 0x7FE00000


@contextmanager
def building_door() -> Iterator[None]:
    """Foreign faults get a code, and their texts, which quote values of the header, go no further.

    Raises:
        EchoFedError: DATA_UNREADABLE.
    """
    libraries = [logging.getLogger(name) for name in ("pydicom", "highdicom")]
    levels = [library.level for library in libraries]
    for library in libraries:
        library.setLevel(logging.CRITICAL + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise EchoFedError(
                Code.DATA_UNREADABLE,
                f"the source's header makes no valid object ({type(error).__name__})",
                "give the file as it lies in the archive",
            ) from None
        finally:
            for library, level in zip(libraries, levels, strict=True):
                library.setLevel(level)


def missing_uids(source: Dataset) -> list[str]:
    """What an object must refer to and the source does not have."""
    return [keyword for keyword in _UIDS if not source.get(keyword)]


def header_of(source: Dataset, segmented: SegmentedCine) -> Dataset:
    """The source without pixels and private elements, complete where it may be empty.

    Raises:
        EchoFedError: DATA_UNREADABLE without the UIDs that an object must refer to, SHAPE_MISMATCH
            where the file is not of the clip's frames, rows and columns.
    """
    header = Dataset()
    with building_door():
        for element in source:
            if not element.tag.is_private and element.tag < _BEFORE_PIXELS:
                header.add(element)
        for keyword in _MAY_BE_EMPTY:
            if header.get(keyword) is None:
                setattr(header, keyword, "")
        if header.PatientSex not in _SEXES:
            header.PatientSex = ""
    if missing := missing_uids(header):
        raise EchoFedError(
            Code.DATA_UNREADABLE,
            f"the source has no {', '.join(missing)}, so nothing can refer to it",
            "give the file as it lies in the archive",
        )
    shape = (int(header.get("NumberOfFrames") or 1), header.get("Rows"), header.get("Columns"))
    if shape != segmented.clip.pixels_THW.shape:
        raise EchoFedError(
            Code.SHAPE_MISMATCH,
            f"the source is of {shape} frames, rows and columns, "
            f"the clip of {segmented.clip.pixels_THW.shape}",
            "give the file that was segmented",
        )
    return header


def frame_numbers(header: Dataset, frames: Sequence[int]) -> list[int] | None:
    """Numbers from 1 as DICOM counts frames, None where the source is a single image."""
    return [frame + 1 for frame in frames] if "NumberOfFrames" in header else None


def describe_maker(models: Sequence[ModelName]) -> dict[str, Any]:
    """Manufacturer, model, software and serial number, as highdicom's constructors take them."""
    hashes = ", ".join(model.weights_sha256[:12] for model in models)
    return {
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": MODEL_NAME,
        "software_versions": f"echofed {version('echofed')}",
        # software has no serial number, but the attribute may not be empty (PS3.3 C.7.5.2)
        "device_serial_number": _fitting(hashes) or "unknown",
    }


def algorithm_name(model: ModelName) -> dict[str, str]:
    """Name and version of the algorithm that a model is; each has 64 characters at most."""
    return {"name": _fitting(model.id), "version": _fitting(model.weights_sha256)}


def new_uid(header: Dataset, made: datetime, *parts: str) -> str:
    """A UID for something new about the source; the same for the same source, time and parts."""
    return str(generate_uid(entropy_srcs=[header.SOPInstanceUID, made.isoformat(), *parts]))


def to_bytes(dataset: Dataset) -> bytes:
    """The file of an object.

    Raises:
        EchoFedError: DATA_UNREADABLE for a name that the source's character set cannot write.
    """
    buffer = io.BytesIO()
    with building_door():
        dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _fitting(text: str) -> str:
    return text[:64]  # VR LO, PS3.5 6.2
