"""Lung ultrasound of the POCUS collection (Born et al. 2021), frames of clips of two institutions.

``images/*.png`` and ``manifest.csv`` with file, patient_guess, label, licence. Not an echo set: it
stands for a foreign organ. The patient is the collectors' guess from the clips' names.
"""

from pathlib import Path

from site_client.datasets.labels import LabelRow
from site_client.datasets.listing import Listing, list_published, names_below, read_table

_LICENCE = "POCUS (Born et al.), CC BY 4.0 and CC BY-NC 4.0 by file"


def find(folder: Path) -> Listing:
    """List the frames; healthy and ill lungs are one view."""
    present = set(names_below(folder))
    table = folder / "manifest.csv"
    columns = {"file", "patient_guess", "label"}
    lines = read_table(table, columns) if table.is_file() else []
    rows = {
        name: LabelRow(line["label"], None, line["patient_guess"])
        for line in lines
        if (name := f"images/{line['file']}") in present
    }
    views = {row.label: ["lung"] for row in rows.values()}
    return list_published("lung_pocus", rows, views, source="cropped-images", licence=_LICENCE)
