"""Unity Imaging: stills of 17 British hospitals with landmarks (data.unityimaging.net).

``png-cache/01/AB/CD/01-HASH-FRAME.png``, ``view_index.csv`` with file and view, and label files
``labels-{train,tune,test}.json`` whose keys are names of stills; the tree is known from the set's
own code and from readers of it. Who is shown is not said: stills of one video are one patient, two
videos of a patient are two. Views that the ontology does not know by name are left unsupervised.
"""

import json
from pathlib import Path, PurePosixPath

from shared.echo.manifest import Split
from shared.errors import Code, EchoFedError
from site_client.datasets.labels import LabelRow
from site_client.datasets.listing import Listing, by_alias, list_published, names_below, read_table

_LICENCE = "Unity Imaging Collaborative, CC BY-NC-ND 4.0"
_LISTS: dict[str, Split] = {
    "labels-train.json": "train",
    "labels-tune.json": "val",
    "labels-test.json": "test",
}


def find(folder: Path) -> Listing:
    """List the stills whose view the index gives."""
    names = names_below(folder)
    shown = {
        PurePosixPath(line["file"]).stem: line["view"].upper()
        for table in names
        if PurePosixPath(table).name == "view_index.csv"
        for line in read_table(folder / table, {"file", "view"})
    }
    splits = _listed_splits(folder, names)
    rows = {
        name: LabelRow(shown[path.stem], splits.get(path.stem), path.stem.rpartition("-")[0])
        for name in names
        if (path := PurePosixPath(name)).suffix == ".png" and path.stem in shown
    }
    views = by_alias(row.label for row in rows.values())
    return list_published("unity", rows, views, source="images", licence=_LICENCE)


def _listed_splits(folder: Path, names: list[str]) -> dict[str, Split]:
    """Splits by name of the still, without suffix."""
    splits: dict[str, Split] = {}
    for path in (folder / name for name in names if PurePosixPath(name).name in _LISTS):
        try:
            keys = list(json.loads(path.read_text("utf-8")))
        except (UnicodeDecodeError, ValueError) as error:
            raise EchoFedError(
                Code.CONFIG_INVALID, f"{path.name} is not JSON", "unpack the set again"
            ) from error
        splits |= {PurePosixPath(str(key)).stem: _LISTS[path.name] for key in keys}
    return splits
