"""EV9V: 5,138 videos of nine views, 320 by 240 (Gou et al.; on the Hugging Face hub).

``Videos/NAME.mp4`` (or .avi), lists ``{train,validation,test}.txt`` or ``*_labeled.txt`` with a
name and a label a line, or ``labels.csv`` with names and labels. Lists and columns are known from
the authors' code, the videos' folder from readers of the set. The authors expand the short axis
labels in ways that contradict each other (PMVLSA as mitral and as papillary level), so all four
stand for the short axis as a whole until someone has looked. A name begins with the time of the
examination, which is taken for the patient.
"""

import re
from pathlib import Path, PurePosixPath

from shared.echo.manifest import Split
from site_client.datasets.labels import LabelRow
from site_client.datasets.listing import Listing, list_published, names_below, read_table

_LICENCE = "EV9V (Gou et al.), CC BY 4.0"
_VIEWS: dict[str, list[str]] = {
    "PLHLA": ["PLAX"],
    "PMASA": ["PSAX"],
    "PMVLSA": ["PSAX"],
    "PASA": ["PSAX"],
    "PPMLSA": ["PSAX"],
    "A4C": ["A4C"],
    "A5C": ["A5C"],
    "PMPALA": ["PSAX-great-vessels", "PSAX-PV", "RV-outflow"],  # pulmonary artery, lengthwise
    "SC4C": ["SC-4C"],
}
_LIST = re.compile(r"(train|validation|test)(_labeled)?\.txt")
_SPLITS: dict[str, Split] = {"train": "train", "validation": "val", "test": "test"}
_EXAMINATION = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d")


def find(folder: Path) -> Listing:
    """List the videos that a list names and that have a known label."""
    names = names_below(folder)
    labels = {
        line["names"]: line["labels"]
        for table in names
        if PurePosixPath(table).name == "labels.csv"
        for line in read_table(folder / table, {"names", "labels"})
    }
    splits: dict[str, Split] = {}
    for path in (PurePosixPath(name) for name in names):
        if match := _LIST.fullmatch(path.name):
            for line in (folder / path).read_text("utf-8").splitlines():
                video, _, label = line.strip().partition(" ")
                splits[video] = _SPLITS[match[1]]
                labels |= {video: label.strip()} if label else {}
    rows = {
        name: LabelRow(labels[path.stem], splits.get(path.stem), _examination(path.stem))
        for name in names
        if (path := PurePosixPath(name)).suffix in {".mp4", ".avi"}
        and labels.get(path.stem) in _VIEWS
    }
    return list_published("ev9v", rows, _VIEWS, source="video", licence=_LICENCE)


def _examination(stem: str) -> str:
    match = _EXAMINATION.match(stem)
    return match[0] if match else stem
