"""The data sheet as one HTML file that needs nothing beside it, pictures included."""

import base64
import io
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import jinja2
from PIL import Image

from shared.echo.manifest import DatasetManifest
from site_client.store import SiteStore

_TEMPLATE = "data_sheet.html"
_LONGEST_SIDE = 180  # pixels of a thumbnail


def draw_thumbnails(store: SiteStore, manifest: DatasetManifest) -> dict[str, bytes]:
    """A small PNG for each label: the middle frame of its first clip, pixels as they are stored.

    Raises:
        EchoFedError: CHECKPOINT_CORRUPT where a clip is missing or damaged.
    """
    first = {clip.label: clip for clip in reversed(manifest.clips)}
    drawn = {}
    for label in sorted(first):
        picture = Image.fromarray(store.middle_frame(manifest.id, first[label]))
        picture.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        drawn[label] = buffer.getvalue()
    return drawn


def render_page(sheet: Mapping[str, Any], thumbnails: Mapping[str, bytes]) -> str:
    """The page.

    Args:
        sheet: what ``data_sheet.describe`` returned.
        thumbnails: PNG by label.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string((files("site_client") / _TEMPLATE).read_text("utf-8"))
    pictures = {
        label: "data:image/png;base64," + base64.b64encode(png).decode()
        for label, png in thumbnails.items()
    }
    return template.render(sheet=sheet, pictures=pictures)
