"""Pictures that their publisher cut to the image: the whole picture is the scanner's 2-D region.

Where no fan fits (linear probes, fans cut at the rim), the hull of the tissue is then kept. Only a
public layout may say so of its files: on a screen with a banner it would keep the banner.
"""

from dataclasses import replace
from pathlib import Path

from shared.echo.detection import Region
from site_client.datasets import images, mhd, nifti, video
from site_client.datasets.raw import RawClip, RawFile, RawHeader, Source


class CroppedSource:
    """Files of another source, each a region as a whole."""

    def __init__(self, source: Source) -> None:
        """Keep the source that reads them."""
        self._source = source

    def recognises(self, path: Path) -> bool:
        """Tell as the source does."""
        return self._source.recognises(path)

    def read(self, path: Path) -> bytes:
        """Read as the source does."""
        return self._source.read(path)

    def open(self, data: bytes) -> "CroppedFile":
        """Parse as the source does."""
        return CroppedFile(self._source.open(data))


class CroppedFile:
    """A file whose pictures are a region as a whole."""

    def __init__(self, file: RawFile) -> None:
        """Keep the opened file."""
        self._file = file

    def header(self) -> RawHeader:
        """The file's own header."""
        return self._file.header()

    def clip(self) -> RawClip:
        """The file's own clip, with the whole picture as region."""
        clip = self._file.clip()
        _, height, width = clip.pixels_THW.shape
        return replace(clip, regions=(Region(0, height, 0, width),))


IMAGES = CroppedSource(images.SOURCE)
VIDEO = CroppedSource(video.SOURCE)
NIFTI = CroppedSource(nifti.SOURCE)
MHD = CroppedSource(mhd.SOURCE)
