"""Calf muscle of two laboratories (TimTrack, van der Zee and Kuo 2022), frames of sequences.

``images/*.jpg`` and ``manifest.csv`` with file and sequence. Not an echo set: it stands for a
foreign organ. A sequence is taken for a patient. The probes are linear, so no fan fits and the hull
is kept; the second laboratory's pictures show the screen around it, which ``keep_pixels=region``
would keep too.
"""

from pathlib import Path

from site_client.datasets.labels import LabelRow
from site_client.datasets.listing import Listing, list_published, names_below, read_table

_LICENCE = "TimTrack (van der Zee and Kuo), CC0 1.0 and CC BY 4.0 by file"


def find(folder: Path) -> Listing:
    """List the frames."""
    present = set(names_below(folder))
    table = folder / "manifest.csv"
    lines = read_table(table, {"file", "sequence"}) if table.is_file() else []
    rows = {
        name: LabelRow("muscle", None, line["sequence"])
        for line in lines
        if (name := f"images/{line['file']}") in present
    }
    views = {"muscle": ["muscle"]}
    return list_published("muscle_timtrack", rows, views, source="cropped-images", licence=_LICENCE)
