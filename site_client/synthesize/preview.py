"""A contact sheet for people to look at: label maps beside the images that were drawn from them."""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.echo.manifest import DatasetManifest
from shared.files import write_bytes
from site_client.clip_file import StoredClip
from site_client.segment.style import BACK, LINE, STRUCTURE_COLOURS, Rgb
from site_client.store import SiteStore

_SIDE = 160  # px of a picture
_GAP = 4
_PAIRS_ACROSS, _MOST_PAIRS = 4, 32
_TISSUE: Rgb = (70, 78, 86)


def save_preview(store: SiteStore, manifest: DatasetManifest, path: Path) -> None:
    """Write the first images of a dataset with their maps as one PNG, atomically.

    Raises:
        EchoFedError: CHECKPOINT_CORRUPT, DISK_FULL.
    """
    pairs = [_pair(store.clip(manifest.id, record)) for record in manifest.clips[:_MOST_PAIRS]]
    across = min(len(pairs), _PAIRS_ACROSS)
    down = -(-len(pairs) // across)
    height, width = _SIDE, 2 * _SIDE
    size = (across * (width + _GAP) + _GAP, down * (height + _GAP) + _GAP)
    sheet = Image.new("RGB", size, LINE)
    for number, pair in enumerate(pairs):
        row, column = divmod(number, across)
        sheet.paste(pair, (_GAP + column * (width + _GAP), _GAP + row * (height + _GAP)))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    write_bytes(path, buffer.getvalue())


def _pair(clip: StoredClip) -> Image.Image:
    """The label map on the left, the image on the right."""
    pair = Image.new("RGB", (2 * _SIDE, _SIDE), BACK)
    pair.paste(Image.fromarray(coloured(clip)).resize((_SIDE, _SIDE), Image.Resampling.NEAREST))
    image = Image.fromarray(clip.pixels_THW[0]).convert("RGB").resize((_SIDE, _SIDE))
    pair.paste(image, (_SIDE, 0))
    return pair


def coloured(clip: StoredClip) -> NDArray[np.uint8]:
    """The label map of a clip in colours (H, W, 3)."""
    assert clip.annotation is not None
    assert clip.mask_HW is not None
    names = clip.annotation.structures
    colours = np.array([STRUCTURE_COLOURS.get(name, _TISSUE) for name in names], np.uint8)
    shown: NDArray[np.uint8] = colours[clip.annotation.labels_FHW[0]]
    shown[~clip.mask_HW] = BACK
    return shown
