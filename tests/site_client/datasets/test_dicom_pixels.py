"""Every pixel form that scanners and archives write is read as the grey that it shows."""

import io
import logging
import warnings
from pathlib import Path

import numpy as np
import pydicom.data
import pytest
from pydicom import dcmread
from pydicom.pixels import apply_color_lut, get_decoder
from pydicom.pixels.decoders.base import _PIXEL_DATA_DECODERS

from shared.errors import Code, EchoFedError
from shared.testing.dicom import build_dicom
from shared.testing.forms import FAN, LOSSY, forms
from site_client.datasets.dicom import SOURCE
from site_client.datasets.dicom_pixels import read_pixels

BUNDLED = Path(pydicom.data.__path__[0]) / "test_files"
LUMA = np.array([0.299, 0.587, 0.114])


@pytest.mark.parametrize("form", forms())
def test_every_form_shows_the_same_grey(form: str) -> None:
    pixels_THW = SOURCE.open(forms()[form]).clip().pixels_THW
    away = np.abs(pixels_THW.astype(int) - FAN).max()
    assert away <= (6 if form in LOSSY else 0)


def test_the_forms_are_all_that_the_plugins_decode() -> None:
    syntaxes = {dcmread(io.BytesIO(data)).file_meta.TransferSyntaxUID for data in forms().values()}
    assert syntaxes >= {uid for uid, (decoder, _) in _PIXEL_DATA_DECODERS.items() if
                        decoder.is_available}  # fmt: skip


def independent_grey(path: Path) -> np.ndarray | None:
    """Luma of what pydicom makes of a file as RGB; None where it does not decode it."""
    try:
        dataset = dcmread(path)
        array, _ = get_decoder(dataset.file_meta.TransferSyntaxUID).as_array(dataset)
    except (AttributeError, RuntimeError, TypeError, ValueError, pydicom.errors.InvalidDicomError):
        return None
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        array = apply_color_lut(array, dataset)
    bits = 8 * array.itemsize if array.ndim > 2 and array.shape[-1] == 3 else dataset.BitsStored
    levels = array.astype(np.int64) + (dataset.PixelRepresentation << (bits - 1))
    grey = np.floor(levels / 2.0 ** (bits - 8))
    return grey @ LUMA if grey.ndim > 2 and grey.shape[-1] == 3 else grey


@pytest.mark.parametrize("path", sorted(BUNDLED.glob("*.dcm")), ids=lambda path: path.stem)
def test_files_of_other_makers_read_as_the_library_shows_them(path: Path) -> None:
    """JPEG colours beyond black and white are clipped on the way to RGB; there it may differ."""
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = independent_grey(path)
        if expected is None:
            with pytest.raises(EchoFedError):
                SOURCE.open(path.read_bytes()).clip()
            return
        seen, _ = read_pixels(dcmread(path))  # they are of every modality; the source takes one
    away = np.abs(seen.squeeze() - expected.squeeze())
    assert away.max() <= 12
    assert np.quantile(away, 0.95) <= 2


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (7, 9)])
def test_odd_sizes_keep_every_pixel(size: tuple[int, int], seed: int) -> None:
    grey = np.random.default_rng(seed).integers(0, 256, (3, *size), np.uint8)
    assert np.array_equal(SOURCE.open(build_dicom(grey)).clip().pixels_THW, grey)
    rgb = np.repeat(grey[..., None], 3, axis=-1)
    assert np.array_equal(SOURCE.open(build_dicom(rgb, colour="RGB")).clip().pixels_THW, grey)


def test_colour_is_weighed_as_the_eye_does() -> None:
    rgb = np.zeros((1, 2, 2, 3), np.uint8)
    rgb[0, 0, 0], rgb[0, 0, 1], rgb[0, 1, 0] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    clip = SOURCE.open(build_dicom(rgb, colour="RGB")).clip()
    np.testing.assert_array_equal(clip.pixels_THW[0], [[76, 150], [29, 0]])


def code_of(data: bytes) -> Code:
    with pytest.raises(EchoFedError) as caught:
        SOURCE.open(data).clip()
    return caught.value.code


@pytest.mark.parametrize("elements", [{"HighBit": 15}, {"Rows": 47}, {"Columns": 65}])
@pytest.mark.parametrize("form", ["12_bits", "jpeg_2000", "jpeg_ls", "jpeg_baseline"])
def test_a_header_that_does_not_fit_its_pixels_is_refused(
    form: str, elements: dict[str, int]
) -> None:
    dataset = dcmread(io.BytesIO(forms()[form]))
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    stream = io.BytesIO()
    dataset.save_as(stream)
    is_plain = form == "12_bits" and elements == {"Rows": 47}  # surplus bytes are padding
    if not is_plain:
        assert code_of(stream.getvalue()) is Code.DATA_UNREADABLE


def test_a_palette_that_cannot_be_is_refused() -> None:
    """Found by damaging files: room for a palette of 32 bits fills the memory."""
    palette = {"BitsAllocated": 32, "Rows": 12, "PhotometricInterpretation": "PALETTE COLOR"}
    dataset = dcmread(io.BytesIO(forms()["palette"]))
    for keyword, value in palette.items():
        setattr(dataset, keyword, value)
    stream = io.BytesIO()
    dataset.save_as(stream)
    assert code_of(stream.getvalue()) is Code.DATA_UNREADABLE


def test_surplus_frames_are_left_and_missing_ones_refused() -> None:
    for claimed, is_read in ((2, True), (3, True), (4, False)):
        dataset = dcmread(io.BytesIO(forms()["jpeg_baseline"]))
        dataset.NumberOfFrames = claimed
        stream = io.BytesIO()
        dataset.save_as(stream)
        if is_read:
            assert len(SOURCE.open(stream.getvalue()).clip().pixels_THW) == claimed
        else:
            assert code_of(stream.getvalue()) is Code.DATA_UNREADABLE
