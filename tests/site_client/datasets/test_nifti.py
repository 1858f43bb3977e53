"""NIfTI files are read upright with their scale; what is damaged is refused without its name."""

import gzip
import os
from contextlib import suppress
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from shared.errors import Code, EchoFedError
from site_client.datasets import SOURCES, nifti

SOURCE = SOURCES["nifti"]
SEQUENCE = np.random.default_rng(1).integers(0, 256, (3, 6, 8), np.uint8)


def stored(values: np.ndarray, zooms: tuple[float, ...] = (), kind: str = "Nifti1Image") -> bytes:
    """A file of an array whose first axis runs right and whose second runs down."""
    image = getattr(nibabel, kind)(values, np.diag([-0.3, -0.15, 1.5, 1.0]))
    image.header.set_xyzt_units("mm", "sec")
    if zooms:
        image.header.set_zooms(zooms)
    return bytes(image.to_bytes())


@pytest.mark.parametrize("kind", ["Nifti1Image", "Nifti2Image"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_sequence_is_read_upright_with_its_scale(kind: str, pack) -> None:  # type: ignore[no-untyped-def]
    data = stored(SEQUENCE.transpose(2, 1, 0), (0.3, 0.15, 1.5), kind)
    clip = SOURCE.open(pack(data)).clip()
    np.testing.assert_array_equal(clip.pixels_THW, SEQUENCE)
    assert clip.mm_per_pixel == pytest.approx((0.15, 0.3))
    assert clip.frame_time_ms is None


def test_time_of_its_own_axis_is_the_frame_time() -> None:
    data = stored(SEQUENCE.transpose(2, 1, 0)[:, :, None], (0.3, 0.15, 1.0, 0.02))
    clip = SOURCE.open(data).clip()
    np.testing.assert_array_equal(clip.pixels_THW, SEQUENCE)
    assert clip.frame_time_ms == pytest.approx(20.0)


def test_a_picture_is_a_clip_of_one_frame() -> None:
    clip = SOURCE.open(stored(SEQUENCE[0].T)).clip()
    np.testing.assert_array_equal(clip.pixels_THW, SEQUENCE[:1])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 300], [600, 1200]], np.int16), [[0, 64], [128, 255]]),
        (np.array([[0.0, 0.5], [1.0, 0.25]], np.float32), [[0, 128], [255, 64]]),
        (np.array([[0.0, 90.6], [255.0, 3.0]], np.float64), [[0, 91], [255, 3]]),
        (np.array([[7000, 7000], [7000, 7000]], np.int32), [[0, 0], [0, 0]]),
    ],
)
def test_other_kinds_of_numbers_become_bytes(values: np.ndarray, expected: list[list[int]]) -> None:
    clip = SOURCE.open(stored(values.T)).clip()
    np.testing.assert_array_equal(clip.pixels_THW[0], expected)


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((4, 4, 3, 3), np.uint8),
        np.zeros((4,), np.uint8),
        np.full((4, 4), np.nan, np.float32),
        np.zeros((4, 4), np.complex64),
    ],
)
def test_what_is_no_grey_picture_is_refused(values: np.ndarray) -> None:
    with pytest.raises(EchoFedError) as caught:
        SOURCE.open(stored(values)).clip()
    assert caught.value.code is Code.DATA_UNREADABLE


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_damaged_file_is_refused(share: float, pack) -> None:  # type: ignore[no-untyped-def]
    whole = pack(stored(SEQUENCE.transpose(2, 1, 0)))
    with pytest.raises(EchoFedError) as caught:
        SOURCE.open(whole[: int(share * len(whole))]).clip()
    assert caught.value.code is Code.DATA_UNREADABLE


@pytest.mark.parametrize("seed", range(20))
def test_a_file_with_wrong_bytes_is_read_or_refused(seed: int) -> None:
    generator = np.random.default_rng(seed)
    data = bytearray(stored(SEQUENCE.transpose(2, 1, 0)))
    for place in generator.integers(0, 352, 6):
        data[place] = generator.integers(256)
    with suppress(EchoFedError):
        SOURCE.open(bytes(data)).clip()


def test_a_stream_that_grows_beyond_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nifti, "MAX_BYTES", 1 << 16)
    with pytest.raises(EchoFedError):
        SOURCE.open(gzip.compress(stored(np.zeros((512, 512), np.uint8)))).clip()


def test_files_are_told_by_their_suffix() -> None:
    assert SOURCE.recognises(Path("a.nii.gz"))
    assert SOURCE.recognises(Path("a.NII"))
    assert not SOURCE.recognises(Path("a.gz"))


def test_camus_stands_upright_as_its_pictures_do() -> None:
    real = os.environ.get("ECHOFED_REAL_DATA")
    if not real:
        pytest.skip("ECHOFED_REAL_DATA is not set")
    stored_nifti = Path(real) / "camus_biplane" / "patient0001_4CH_ED.nii.gz"
    clip = SOURCE.open(SOURCE.read(stored_nifti)).clip()
    with Image.open(Path(real) / "camus_a4c" / "images" / "patient0001_4CH_ED.png") as picture:
        upright = np.asarray(picture, np.float64)
        size = picture.size
    shrunk = np.asarray(Image.fromarray(clip.pixels_THW[0]).resize(size), np.float64)
    assert np.corrcoef(shrunk.ravel(), upright.ravel())[0, 1] > 0.99
    assert clip.mm_per_pixel == pytest.approx((0.154, 0.308))
