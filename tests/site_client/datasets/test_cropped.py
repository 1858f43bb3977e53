"""A picture that is tissue as a whole is its own region; everything else is as its source says."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from shared.echo.detection import Region, detect_sector
from site_client.datasets import SOURCES


def linear_picture() -> bytes:
    """Tissue of a linear probe: a rectangle on black, with a word in the corner."""
    grey = np.zeros((96, 128), np.uint8)
    grey[10:90, 20:110] = np.random.default_rng(0).integers(40, 250, (80, 90))
    grey[2:6, 116:126:2] = 255
    stream = io.BytesIO()
    Image.fromarray(grey).save(stream, "PNG")
    return stream.getvalue()


def test_a_picture_without_a_fan_keeps_its_tissue_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(linear_picture())
    source = SOURCES["cropped-images"]
    opened = source.open(source.read(tmp_path / "a.png"))
    clip = opened.clip()
    assert clip.regions == (Region(0, 96, 0, 128),)
    sector = detect_sector(clip.pixels_THW, clip.regions[0])
    assert sector is not None
    assert sector.mask_HW[12:88, 22:108].all()
    assert not sector.mask_HW[2:6, 116:].any()


def test_files_and_patients_are_those_of_the_source() -> None:
    plain, cropped = SOURCES["images"], SOURCES["cropped-images"]
    data = linear_picture()
    assert cropped.open(data).header().patient == plain.open(data).header().patient
    assert cropped.recognises(Path("a.png"))
    assert not cropped.recognises(Path("a.avi"))
