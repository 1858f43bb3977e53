"""The data sheet as one HTML file that needs nothing beside it, pictures included."""

import base64
import io
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import jinja2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.echo.manifest import ClipRecord, DatasetManifest
from site_client.store import SiteStore

_TEMPLATE = "data_sheet.html"
_LONGEST_SIDE = 180  # pixels of a thumbnail
_PER_LABEL = 3  # patients


def draw_thumbnails(store: SiteStore, manifest: DatasetManifest) -> dict[str, list[bytes]]:
    """Small PNGs of each label: the middle frame of a clip of each of the first few patients.

    Raises:
        EchoFedError: CHECKPOINT_CORRUPT where a clip is missing or damaged.
    """
    chosen: dict[str, dict[str, ClipRecord]] = {}
    for clip in manifest.clips:
        shown = chosen.setdefault(clip.label, {})
        if len(shown) < _PER_LABEL:
            shown.setdefault(clip.patient, clip)
    return {
        label: [_thumbnail(store.middle_frame(manifest.id, clip)) for clip in shown.values()]
        for label, shown in sorted(chosen.items())
    }


def render_page(sheet: Mapping[str, Any], thumbnails: Mapping[str, Sequence[bytes]]) -> str:
    """The page.

    Args:
        sheet: what ``data_sheet.describe`` returned.
        thumbnails: PNGs by label.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string((files("site_client") / _TEMPLATE).read_text("utf-8"))
    pictures = {
        label: ["data:image/png;base64," + base64.b64encode(png).decode() for png in drawn]
        for label, drawn in thumbnails.items()
    }
    return template.render(sheet=sheet, pictures=pictures)


def _thumbnail(frame_HW: NDArray[np.uint8]) -> bytes:
    picture = Image.fromarray(frame_HW)
    picture.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
