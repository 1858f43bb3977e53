"""MetaImage files are read with the pixels beside them, and with no others."""

import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from shared.errors import Code, EchoFedError
from site_client.datasets import SOURCES

SOURCE = SOURCES["mhd"]
SEQUENCE = np.random.default_rng(1).integers(0, 256, (3, 6, 8), np.uint8)


def written(folder: Path, values: np.ndarray = SEQUENCE, **changes: str) -> Path:
    frames, height, width = values.shape
    fields = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False",
        "ElementSpacing": "0.3 0.15 1",
        "DimSize": f"{width} {height} {frames}",
        "ElementType": "MET_UCHAR",
        "ElementDataFile": "clip.raw",
    } | changes
    path = folder / "clip.mhd"
    path.write_text("".join(f"{name} = {value}\n" for name, value in fields.items()))
    packed = values.tobytes()
    packed = zlib.compress(packed) if fields["CompressedData"] == "True" else packed
    (folder / "clip.raw").write_bytes(packed)
    return path


def read(path: Path):  # type: ignore[no-untyped-def]
    return SOURCE.open(SOURCE.read(path)).clip()


@pytest.mark.parametrize("compressed", ["False", "True"])
def test_a_sequence_is_read_upright_with_its_scale(tmp_path: Path, compressed: str) -> None:
    clip = read(written(tmp_path, CompressedData=compressed))
    np.testing.assert_array_equal(clip.pixels_THW, SEQUENCE)
    assert clip.mm_per_pixel == pytest.approx((0.15, 0.3))


def test_a_picture_and_pixels_in_the_same_file(tmp_path: Path) -> None:
    path = written(tmp_path, SEQUENCE[:1], DimSize="8 6", NDims="2", ElementDataFile="LOCAL")
    path.write_bytes(path.read_bytes() + SEQUENCE[0].tobytes())
    np.testing.assert_array_equal(read(path).pixels_THW, SEQUENCE[:1])


@pytest.mark.parametrize("order", ["True", "False"])
def test_wide_numbers_of_either_byte_order(tmp_path: Path, order: str) -> None:
    wide = SEQUENCE.astype(">u2" if order == "True" else "<u2")
    path = written(tmp_path, wide, ElementType="MET_USHORT", BinaryDataByteOrderMSB=order)
    np.testing.assert_array_equal(read(path).pixels_THW, SEQUENCE)


def test_two_headers_of_equal_text_are_two_clips(tmp_path: Path) -> None:
    for name, values in (("a", SEQUENCE), ("b", 255 - SEQUENCE)):
        (tmp_path / name).mkdir()
        written(tmp_path / name, values)
    one, other = (SOURCE.read(tmp_path / name / "clip.mhd") for name in "ab")
    assert one != other
    assert SOURCE.open(one).header().patient != SOURCE.open(other).header().patient


@pytest.mark.parametrize("pointer", ["../other.raw", "missing.raw", "LIST", "", "sub/clip.raw"])
def test_only_a_file_beside_it_is_read(tmp_path: Path, pointer: str) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for name in ("other.raw", "in/sub/clip.raw"):
        (tmp_path / name).write_bytes(SEQUENCE.tobytes())
    path = written(tmp_path / "in", ElementDataFile=pointer)
    with pytest.raises(EchoFedError) as caught:
        SOURCE.read(path)
    assert caught.value.code is Code.DATA_UNREADABLE
    assert "clip" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"DimSize": "8 6 4"},
        {"DimSize": "8 -6 3"},
        {"DimSize": "8 6 3 2"},
        {"DimSize": f"{sys.maxsize} 6 3"},
        {"DimSize": "eight"},
        {"ElementType": "MET_STRANGE"},
        {"ElementNumberOfChannels": "3"},
        {"CompressedData": "True", "DimSize": "8 6 4"},
        {"HeaderSize": "1"},
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, str]) -> None:
    path = written(tmp_path, **changes)
    header = [line for line in path.read_text().splitlines() if line[:15] != "ElementDataFile"]
    path.write_text("\n".join([*header, "ElementDataFile = clip.raw"]))
    with pytest.raises(EchoFedError) as caught:
        read(path)
    assert caught.value.code is Code.DATA_UNREADABLE


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"a = b\n", b"x" * 100_000])
def test_what_is_no_header_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "clip.mhd"
    path.write_bytes(data)
    with pytest.raises(EchoFedError) as caught:
        SOURCE.read(path)
    assert caught.value.code is Code.DATA_UNREADABLE
