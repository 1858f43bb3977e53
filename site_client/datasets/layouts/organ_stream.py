"""Parts of public ultrasound sets brought together as one virtual site: a stand-in for echo views.

``images/*`` and ``manifest.csv`` with file, view (as the ontology names it), patient and split.
Pictures of its sets are cut to the image. No row of it is an echo view result.
"""

from pathlib import Path

from shared.echo.manifest import SPLITS, Split
from site_client.datasets.labels import LabelRow
from site_client.datasets.listing import Listing, by_alias, list_published, names_below, read_table

_LICENCE = "public sets as named by their licences; for research only"


def find(folder: Path) -> Listing:
    """List the pictures."""
    present = set(names_below(folder))
    table = folder / "manifest.csv"
    columns = {"file", "view", "patient", "split"}
    lines = read_table(table, columns) if table.is_file() else []
    splits: dict[str, Split] = {split: split for split in SPLITS}
    rows = {
        name: LabelRow(line["view"], splits.get(line["split"]), line["patient"])
        for line in lines
        if (name := f"images/{line['file']}") in present
    }
    views = by_alias(row.label for row in rows.values())
    return list_published("organ_stream", rows, views, source="cropped-images", licence=_LICENCE)
