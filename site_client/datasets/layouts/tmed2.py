"""TMED-2: stills of 112 by 112 with view labels (Huang et al., MLHC 2022; tmed.cs.tufts.edu).

Pictures are ``STUDY_K.png`` in ``view_and_diagnosis_labeled_set/labeled`` and
``view_labeled_set/labeled``, a study being PATIENTsN (``3725s1_5.png``). The table
``*labeledpart.csv`` has ``query_key``, ``view_label``, ``view_classifier_split`` and
``SourceFolder``. Columns and names are those of the authors' code; the archive itself was not seen.
Of several tables (folds 0-2 of DEV479, DEV165, DEV56) the first fold of the largest is taken.
"""

from pathlib import Path, PurePosixPath

from site_client.datasets.labels import LabelRow, split_named
from site_client.datasets.listing import Listing, list_published, names_below, read_table

_LICENCE = "TMED-2, Tufts Medical Center, research use under its data agreement; cite Huang et al."
_VIEWS: dict[str, list[str]] = {
    "PLAX": ["PLAX"],
    "PSAX": ["PSAX"],  # any level: the node stands for all its leaves
    "A4C": ["A4C"],
    "A2C": ["A2C"],
    "A4CorA2CorOther": ["A4C", "A2C", "other"],
    "Not_Provided": [],
}
_COLUMNS = {"query_key", "view_label", "view_classifier_split"}


def find(folder: Path) -> Listing:
    """List the stills that the table labels."""
    names = names_below(folder)
    tables = sorted(
        (name for name in names if name.endswith("labeledpart.csv") and "unlabeled" not in name),
        key=lambda name: ("fold0" not in name, "DEV479" not in name, name),
    )
    places: dict[str, list[str]] = {}
    for name in names:
        places.setdefault(PurePosixPath(name).name, []).append(name)
    lines = read_table(folder / tables[0], _COLUMNS) if tables else []
    rows = {
        name: LabelRow(
            line["view_label"],
            split_named(line["view_classifier_split"]),
            line["query_key"].partition("s")[0],
        )
        for line in lines
        if (name := _place(places.get(line["query_key"], []), line.get("SourceFolder", "")))
    }
    views = _VIEWS | {row.label: [] for row in rows.values() if row.label not in _VIEWS}
    return list_published("tmed2", rows, views, source="cropped-images", licence=_LICENCE)


def _place(places: list[str], source_folder: str) -> str:
    """The file of this name, in its source folder where several have the name; empty for none."""
    wanted = source_folder.strip("/")
    inside = [name for name in places if f"/{wanted}/" in f"/{name}"]
    return (inside or places or [""])[0]
