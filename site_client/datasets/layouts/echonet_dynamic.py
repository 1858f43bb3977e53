"""EchoNet-Dynamic: 10,030 apical four-chamber videos of 112 by 112 (Ouyang et al., Nature 2020).

``Videos/NAME.avi`` and ``FileList.csv`` with FileName (without suffix) and Split (TRAIN, VAL,
TEST). One video a patient, so each is a patient of its own. ``VolumeTracings.csv`` outlines the
left ventricle in two frames of nearly every video.
"""

from pathlib import Path, PurePosixPath

from site_client.datasets.annotations.tracings import Tracings, read_tracings
from site_client.datasets.beside import Beside
from site_client.datasets.labels import LabelRow, split_named
from site_client.datasets.listing import Listing, list_published, names_below, read_table

_LICENCE = "EchoNet-Dynamic, Stanford University research use agreement, non-commercial"


def find(folder: Path) -> Listing:
    """List the videos; all are A4C."""
    names = names_below(folder)
    splits = {
        PurePosixPath(line["FileName"]).stem: line["Split"]
        for table in names
        if PurePosixPath(table).name == "FileList.csv"
        for line in read_table(folder / table, {"FileName", "Split"})
    }
    rows = {
        name: LabelRow("A4C", split_named(splits[path.stem]))
        for name in names
        if (path := PurePosixPath(name)).suffix == ".avi" and path.stem in splits
    }
    traced = _tracings(folder, names)
    beside = {
        name: Beside(traced[stem]) for name in rows if (stem := PurePosixPath(name).stem) in traced
    }
    return list_published(
        "echonet_dynamic", rows, {"A4C": ["A4C"]}, source="cropped-video", licence=_LICENCE,
        beside=beside,
    )  # fmt: skip


def _tracings(folder: Path, names: list[str]) -> dict[str, Tracings]:
    traced: dict[str, Tracings] = {}
    for table in names:
        if PurePosixPath(table).name == "VolumeTracings.csv":
            traced |= read_tracings(folder / table)
    return traced
