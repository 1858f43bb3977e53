"""EchoNet-LVH: 12,000 parasternal long axis videos (Duffy et al., JAMA Cardiology 2022).

``BatchN/NAME.avi`` and ``MeasurementsList.csv`` with several lines a video: HashedFileName (without
suffix) and split (train, val, test). Columns as in others' readers of the set. Who is shown is not
said, so each video is a patient of its own.
"""

from pathlib import Path, PurePosixPath

from site_client.datasets.labels import LabelRow, split_named
from site_client.datasets.listing import Listing, list_published, names_below, read_table

_LICENCE = "EchoNet-LVH, Stanford University research use agreement, non-commercial"


def find(folder: Path) -> Listing:
    """List the videos that have a measurement; all are PLAX."""
    names = names_below(folder)
    splits = {
        PurePosixPath(line["HashedFileName"]).name.removesuffix(".avi"): line["split"]
        for table in names
        if PurePosixPath(table).name == "MeasurementsList.csv"
        for line in read_table(folder / table, {"HashedFileName", "split"})
    }
    rows = {
        name: LabelRow("PLAX", split_named(splits[path.stem]))
        for name in names
        if (path := PurePosixPath(name)).suffix == ".avi" and path.stem in splits
    }
    return list_published(
        "echonet_lvh", rows, {"PLAX": ["PLAX"]}, source="cropped-video", licence=_LICENCE
    )
