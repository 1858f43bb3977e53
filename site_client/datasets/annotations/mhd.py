"""Label maps as MetaImage, their axes as those of the pictures."""

from pathlib import Path

from site_client.datasets.beside import RawLabels
from site_client.datasets.mhd import collect, read_values


def read(path: Path) -> RawLabels:
    """The maps of all frames.

    Raises:
        EchoFedError: DATA_UNREADABLE.
    """
    return RawLabels(read_values(collect(path)), leaves_out_frames=True)
