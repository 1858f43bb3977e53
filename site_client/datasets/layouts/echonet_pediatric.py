"""EchoNet-Pediatric: A4C and PSAX videos of children, 112 by 112 (Reddy et al., JASE 2023).

``pediatric_echo_avi/{A4C,PSAX}/Videos/NAME.avi`` and ``FileList.csv`` in each view's folder, with
FileName and Split, a fold from 0 to 9. Folds 0-7 are taken as train, 8 as val and 9 as test, which
gives the published counts' proportions; that it is the authors' choice is not verified, nor is the
level of the short axis. The first part of a name is taken for the patient, which is not verified
either: at worst it holds together what need not be.
"""

from pathlib import Path, PurePosixPath

from shared.echo.manifest import Split
from site_client.datasets.labels import LabelRow
from site_client.datasets.listing import Listing, list_published, names_below, read_table

_LICENCE = "EchoNet-Pediatric, Stanford University research use agreement, non-commercial"
_VIEWS = {"A4C": ["A4C"], "PSAX": ["PSAX"]}
_LATER_FOLDS: dict[str, Split] = {"8": "val", "9": "test"}


def find(folder: Path) -> Listing:
    """List the videos of both views."""
    names = names_below(folder)
    rows: dict[str, LabelRow] = {}
    for table in (PurePosixPath(name) for name in names if name.endswith("FileList.csv")):
        label = (folder / table).resolve().parent.name
        if label not in _VIEWS:
            continue
        lines = read_table(folder / table, {"FileName", "Split"})
        folds = {PurePosixPath(line["FileName"]).stem: line["Split"] for line in lines}
        inside = (PurePosixPath(name) for name in names if name.endswith(".avi"))
        rows |= {
            path.as_posix(): LabelRow(label, _split(folds[path.stem]), path.stem.partition("-")[0])
            for path in inside
            if path.is_relative_to(table.parent) and path.stem in folds
        }
    return list_published(
        "echonet_pediatric", rows, _VIEWS, source="cropped-video", licence=_LICENCE
    )


def _split(fold: str) -> Split | None:
    digits = fold.removesuffix(".0")
    return _LATER_FOLDS.get(digits, "train") if digits.isdecimal() else None
