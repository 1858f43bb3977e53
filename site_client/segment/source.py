"""A file that shall be segmented: de-identified as at ingest, its header kept apart and in memory.

Networks, pictures and documents see the fan alone. The header serves the clinical objects of the
same archive, and nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset

from shared.echo.frame import Clip
from shared.errors import Code, EchoFedError
from site_client.clip_file import StoredClip
from site_client.datasets import SOURCES
from site_client.datasets.dicom import DicomFile
from site_client.datasets.listing import source_of
from site_client.datasets.raw import Mode
from site_client.deidentify import Pseudonyms, deidentify
from site_client.quarantine import Candidate, clean
from site_client.store import SiteStore

_WANTED: tuple[Mode, ...] = ("b_mode",)
_WAYS_OUT = {
    Code.MODE_UNWANTED: "give a cine or a still of plain tissue, without colour and traces",
    Code.SECTOR_EMPTY: "give a 2-D ultrasound picture that shows its fan",
}


@dataclass(frozen=True, slots=True, eq=False)
class SourceFile:
    """An opened file.

    Args:
        clip: pixels of the fan alone, by pseudonyms.
        stored: the same with its fan, as ingest would store it.
        original: the file as it came, None where it is no DICOM.
        is_named: whether the file says whose it is.
    """

    clip: Clip
    stored: StoredClip
    original: Dataset | None
    is_named: bool


def open_source(path: Path, store: SiteStore) -> SourceFile:
    """Read a file of any kind that the site knows; nothing of it is stored.

    Raises:
        EchoFedError: DATA_UNREADABLE, PIXELS_MISSING, FRAMES_MISSING, SECTOR_EMPTY for a picture
            without a fan, MODE_UNWANTED for flow, spectra and M-mode, TEXT_FOUND.
    """
    if not path.is_file():
        raise EchoFedError(Code.DATA_UNREADABLE, "the file is not there", "check its path")
    pseudonyms = Pseudonyms(store.key())
    reader = SOURCES[source_of(path)]
    data = reader.read(path)
    opened = reader.open(data)
    key, patient = pseudonyms.clip(data, "sector"), pseudonyms.patient(opened.header().patient)
    candidate = Candidate(key, patient, "", lambda: deidentify(opened.clip(), "sector", _WANTED))
    try:
        stored = clean(store, candidate)
    except EchoFedError as error:
        way_out = _WAYS_OUT.get(error.code, error.hint)
        raise EchoFedError(error.code, error.message, way_out) from error
    clip = Clip(stored.pixels_THW, stored.mm_per_pixel, stored.frame_time_ms, key, patient)
    original = opened.original() if isinstance(opened, DicomFile) else None
    return SourceFile(clip, stored, original, original is not None)


def expect_one_patient(files: Sequence[SourceFile]) -> None:
    """Check that files that say whose they are belong together.

    Raises:
        EchoFedError: VIEWS_UNFIT.
    """
    if len({file.clip.patient for file in files if file.is_named}) > 1:
        raise EchoFedError(
            Code.VIEWS_UNFIT,
            "the files are of different patients",
            "give two views of one examination",
        )
