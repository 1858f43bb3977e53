"""The sheet shows each map in its colours beside the image that was drawn from it."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from site_client.segment.style import BACK, STRUCTURE_COLOURS
from site_client.synthesize.preview import coloured, save_preview


def test_map_and_image_stand_side_by_side(yard: Any, tmp_path: Path) -> None:
    manifest = yard.run(num=8).manifest
    save_preview(yard.store, manifest, tmp_path / "sheet.png")
    sheet_HW3 = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet_HW3.shape == (2 * 164 + 4, 4 * 324 + 4, 3)
    clip = yard.store.clip("drawn", manifest.clips[0])
    shown = np.asarray(Image.fromarray(clip.pixels_THW[0]).resize((160, 160)))
    np.testing.assert_array_equal(sheet_HW3[4:164, 164:324, 0], shown)


def test_colours_are_those_of_the_structures(yard: Any) -> None:
    clip = yard.store.clip("drawn", yard.run(num=8).manifest.clips[0])
    map_HW3 = coloured(clip)
    names, labels_HW = clip.annotation.structures, clip.annotation.labels_FHW[0]
    for name in ("lv", "myocardium", "la"):
        shown = (map_HW3 == STRUCTURE_COLOURS[name]).all(axis=2)
        np.testing.assert_array_equal(shown, labels_HW == names.index(name))
    assert (map_HW3[~clip.mask_HW] == BACK).all()
