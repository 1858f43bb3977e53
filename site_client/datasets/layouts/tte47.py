"""TTE47: stills of 47 views with the screen around them (Unity Biobank, thrive-centre).

Known is the reference gallery, one still a view: ``NN_LABEL.png``. It is for testing, one picture
of a view being nothing to learn from, and who is shown is not said. The tree of the released test
part (5,447 stills labelled by three experts) could not be seen and is not read. "none of the above"
is negative evidence only (``other``), "not sure" is no supervision.
"""

import re
from pathlib import Path, PurePosixPath

from site_client.datasets.labels import LabelRow
from site_client.datasets.listing import Listing, by_alias, list_published, names_below

_LICENCE = "TTE47 (Unity Biobank, thrive-centre), CC BY-NC-SA 4.0"
_STILL = re.compile(r"\d{1,2}_([a-z0-9-]+)\.png")
_UNSURE = ["not-sure", "not sure"]


def find(folder: Path) -> Listing:
    """List the stills of the gallery; M-mode and Doppler have views of their own."""
    rows = {
        name: LabelRow(match[1], "test")
        for name in names_below(folder)
        if (match := _STILL.fullmatch(PurePosixPath(name).name))
    }
    views = by_alias(row.label for row in rows.values()) | dict.fromkeys(_UNSURE, ())
    return list_published("tte47", rows, views, source="images", licence=_LICENCE)
