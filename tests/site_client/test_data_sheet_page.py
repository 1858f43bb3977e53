"""The page is one file: pictures inside, nothing loaded from elsewhere, words escaped."""

import base64
import io
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from PIL import Image

from site_client.clip_file import save_clip
from site_client.data_sheet import describe, read_acquisitions
from site_client.data_sheet_page import draw_thumbnails, render_page
from site_client.store import SiteStore

StripedSite = Callable[..., SiteStore]
HOSTILE = "<script>alert('4CH')</script>"


def render(store: SiteStore, **changes: str) -> str:
    manifest = replace(store.manifest("demo"), **changes)
    acquisitions = read_acquisitions(store, manifest, lambda units, note: None)
    sheet = describe(manifest, acquisitions, minimum=5)
    return render_page(sheet, draw_thumbnails(store, manifest))


def test_the_page_stands_alone_and_shows_pictures_of_each_label(striped_site: StripedSite) -> None:
    store = striped_site()
    page = render(store, licence="CC BY 4.0")
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(pictures) == len(set(pictures)) == 6  # of three patients each
    assert not re.search(r"https?://|<link|<script|@import|url\(", page)
    stored = store.clip("demo", store.manifest("demo").clips[1]).pixels_THW[1]  # sorted: 2CH first
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(pictures[0]))))
    assert np.array_equal(shown, stored)
    assert "CC BY 4.0" in page
    assert "None was found" in page
    assert "phantom data" in page
    assert store.manifest("demo").content_hash() in page


def test_words_of_the_site_are_text_and_not_markup(striped_site: StripedSite) -> None:
    page = render(striped_site({HOSTILE: ("A4C",), "2CH": ("A2C",)}), purpose="<b>all</b>")
    assert HOSTILE not in page
    assert "<b>all</b>" not in page
    assert "&lt;script&gt;" in page


def test_hidden_counts_are_hidden_on_the_page_too(striped_site: StripedSite) -> None:
    page = render(striped_site(num_patients=4))
    assert "&lt;5" in page
    assert not re.search(r"<td>[48]</td>", page)


def test_the_page_names_a_shortcut(striped_site: StripedSite) -> None:
    store = striped_site()
    manifest = store.manifest("demo")
    for record in manifest.clips:
        if record.label == "2CH":
            clip = store.clip("demo", record)
            save_clip(store.clip_path("demo", record.key), replace(clip, mm_per_pixel=(0.25, 0.25)))
    page = render(store)
    assert re.search(r"<td>2CH</td><td class=\"text\">pixel spacing</td>", page)
