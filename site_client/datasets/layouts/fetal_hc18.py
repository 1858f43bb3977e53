"""HC18: fetal heads with the outline of the skull (van den Heuvel et al. 2018).

``training_set/NNN_HC.png`` and ``test_set/NNN_HC.png`` as published, with ``*_Annotation.png``; or
an extract with ``images/`` and ``masks/``. ``NNN_2HC.png`` is a further picture of the same fetus,
as the names are commonly read; a table of the subjects is not published. Not an echo set.
"""

import re
from pathlib import Path, PurePosixPath

from site_client.datasets.labels import LabelRow
from site_client.datasets.listing import Listing, list_published, names_below

_LICENCE = "HC18 (van den Heuvel et al.), CC BY 4.0"
_PICTURE = re.compile(r"(\d{3})_\d?HC\.png")


def find(folder: Path) -> Listing:
    """List the pictures without the outlines."""
    rows = {
        name: LabelRow("HC", "test" if path.parent.name == "test_set" else None, match[1])
        for name in names_below(folder)
        if (match := _PICTURE.fullmatch((path := PurePosixPath(name)).name))
        and path.parent.name != "masks"
    }
    views = {"HC": ["fetal-head"]}
    return list_published("fetal_hc18", rows, views, source="cropped-images", licence=_LICENCE)
