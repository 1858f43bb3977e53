"""Label maps as NIfTI, their axes as those of the pictures."""

from pathlib import Path

from site_client.datasets.beside import RawLabels
from site_client.datasets.nifti import read_values
from site_client.datasets.raw import read_bytes


def read(path: Path) -> RawLabels:
    """The maps of all frames.

    Raises:
        EchoFedError: DATA_UNREADABLE.
    """
    return RawLabels(read_values(read_bytes(path)), leaves_out_frames=True)
