"""All that a person, a program or an archive may want of a segmented cine, as files in a folder."""

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydicom.dataset import Dataset

from shared.errors import Code, EchoFedError
from shared.files import write_bytes
from site_client.segment.cine import SegmentedCine
from site_client.segment.dicom_header import to_bytes
from site_client.segment.dicom_report import build_report
from site_client.segment.dicom_segmentation import build_segmentation
from site_client.segment.document import findings_document
from site_client.segment.overlay import draw_mp4, draw_png

Kind = Literal["png", "mp4", "json", "seg", "sr"]

FILES: dict[Kind, str] = {
    "png": "overlay.png",
    "mp4": "overlay.mp4",
    "json": "findings.json",
    "seg": "segmentation.dcm",
    "sr": "report.dcm",
}
CLINICAL: tuple[Kind, ...] = ("seg", "sr")
"""These name the patient of the source and are for the hospital's archive only."""


def fitting_kinds(segmented: SegmentedCine, *, is_dicom: bool) -> tuple[Kind, ...]:
    """All kinds that have something to hold: no film of a still, no object without its source."""
    is_cine = len(segmented.clip.pixels_THW) > 1
    shows = any(mask is not None and mask.labels_HW.any() for mask in segmented.masks)
    is_reported = bool(segmented.measurements) or segmented.ed is not None
    fits: dict[Kind, bool] = {
        "png": True,
        "mp4": is_cine,
        "json": True,
        "seg": is_dicom and shows,
        "sr": is_dicom and is_reported,
    }
    return tuple(kind for kind in FILES if fits[kind])


def write_outputs(
    folder: Path,
    segmented: SegmentedCine,
    source: Dataset | None,
    kinds: Sequence[Kind] = ("png", "mp4", "json", "seg", "sr"),
    *,
    made: datetime | None = None,
) -> list[Path]:
    """Write the files asked for, each whole or not at all, and none before all could be made.

    Args:
        folder: made where it is missing; files of the same names are replaced.
        segmented: a cine or a single frame.
        source: the DICOM file that was segmented, for ``seg`` and ``sr``; what else is written has
            nothing of it.
        kinds: which files, in this order.
        made: when it was segmented, in local time; now where it is None.

    Raises:
        EchoFedError: CONFIG_INVALID where a clinical object is asked for without its source;
            NOTHING_TO_DO where there is nothing to put into it; DISK_FULL.
    """
    when = made or datetime.now().astimezone()
    builders: dict[Kind, Callable[[], bytes]] = {
        "png": lambda: draw_png(segmented),
        "mp4": lambda: draw_mp4(segmented),
        "json": lambda: (json.dumps(findings_document(segmented), indent=1) + "\n").encode(),
        "seg": lambda: to_bytes(build_segmentation(segmented, _require(source), made=when)),
        "sr": lambda: to_bytes(build_report(segmented, _require(source), made=when)),
    }
    contents = [(folder / FILES[kind], builders[kind]()) for kind in kinds]
    for path, content in contents:
        write_bytes(path, content)
    return [path for path, _ in contents]


def _require(source: Dataset | None) -> Dataset:
    if source is None:
        raise EchoFedError(
            Code.CONFIG_INVALID,
            "a DICOM object is made for a DICOM file, and there is none",
            "segment the original file, or leave seg and sr out",
        )
    return source
