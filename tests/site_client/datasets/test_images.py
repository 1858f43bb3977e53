import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared.errors import Code, EchoFedError
from site_client.datasets import SOURCES

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8)


def encoded(picture: Image.Image, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_grey_levels_are_read_as_they_are(kind: str) -> None:
    clip = SOURCES["images"].open(encoded(Image.fromarray(GREY), kind)).clip()
    np.testing.assert_array_equal(clip.pixels_THW, GREY[None])
    assert clip.mm_per_pixel is None
    assert clip.regions == ()


def test_colour_becomes_its_brightness_and_transparency_black() -> None:
    rgb = np.zeros((2, 2, 3), np.uint8)
    rgb[0, 0], rgb[0, 1] = (255, 0, 0), (0, 255, 0)
    clip = SOURCES["images"].open(encoded(Image.fromarray(rgb))).clip()
    np.testing.assert_array_equal(clip.pixels_THW[0], [[76, 150], [0, 0]])
    clear = np.full((2, 2, 4), 255, np.uint8)
    clear[0, 0, 3] = 0
    clip = SOURCES["images"].open(encoded(Image.fromarray(clear))).clip()
    np.testing.assert_array_equal(clip.pixels_THW[0], [[0, 255], [255, 255]])


def test_sixteen_bits_are_scaled_to_eight() -> None:
    wide = (GREY.astype(np.uint16) << 8) + 7
    clip = SOURCES["images"].open(encoded(Image.fromarray(wide))).clip()
    np.testing.assert_array_equal(clip.pixels_THW[0], GREY)


def test_every_picture_is_a_patient_of_its_own() -> None:
    one, other = encoded(Image.fromarray(GREY)), encoded(Image.fromarray(GREY[::-1].copy()))
    source = SOURCES["images"]
    assert source.open(one).header().patient == source.open(one).header().patient
    assert source.open(one).header().patient != source.open(other).header().patient


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_damaged_picture_is_refused_without_its_name(share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    whole = encoded(Image.fromarray(noise))
    with pytest.raises(EchoFedError) as caught:
        SOURCES["images"].open(whole[: int(share * len(whole))]).clip()
    assert caught.value.code is Code.DATA_UNREADABLE


def test_files_are_told_by_their_suffix() -> None:
    source = SOURCES["images"]
    assert source.recognises(Path("a.PNG"))
    assert not source.recognises(Path("a.dcm"))
