"""Every pixel form reads as the same grey; every damaged file gets its code and names nobody."""

import contextlib
import re
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.uid import JPEG2000Lossless, RLELossless

from shared.echo.detection import Region
from shared.errors import Code, EchoFedError
from shared.testing.dicom import PLANTED, build_dicom, build_region
from site_client.datasets import SOURCES
from site_client.datasets.dicom import SOURCE
from site_client.datasets.raw import RawClip

READABLE = {Code.DATA_UNREADABLE, Code.PIXELS_MISSING, Code.FRAMES_MISSING, Code.SECTOR_EMPTY}


def read(data: bytes) -> RawClip:
    return SOURCE.open(data).clip()


def read_all(data: bytes) -> None:
    opened = SOURCE.open(data)
    opened.header()
    opened.clip()


def code_of(data: bytes) -> Code:
    with pytest.raises(EchoFedError) as caught:
        read_all(data)
    assert PLANTED not in str(caught.value)
    return caught.value.code


@pytest.fixture
def grey(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (3, 40, 48)).astype(np.uint8)


def test_grey_frames_come_back_unchanged(grey: NDArray[np.uint8]) -> None:
    assert np.array_equal(read(build_dicom(grey)).pixels_THW, grey)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_lossless_compression_changes_nothing(grey: NDArray[np.uint8], syntax: str) -> None:
    assert np.array_equal(read(build_dicom(grey, syntax=syntax)).pixels_THW, grey)  # type: ignore[arg-type]


@pytest.mark.parametrize("colour", ["RGB", "YBR_FULL"])
def test_grey_shown_in_colour_is_the_same_grey(grey: NDArray[np.uint8], colour: str) -> None:
    channels = [grey] * 3 if colour == "RGB" else [grey, *[np.full_like(grey, 128)] * 2]
    clip = read(build_dicom(np.stack(channels, axis=-1), colour=colour))
    assert np.array_equal(clip.pixels_THW, grey)


def test_halved_colour_keeps_the_brightness(grey: NDArray[np.uint8]) -> None:
    pairs = grey.reshape(3, 40, 24, 2)
    packed = np.concatenate(
        [pairs, np.full_like(pairs, 128)], axis=-1
    )  # Y Y Cb Cr, PS3.3 C.7.6.3.1.2
    data = build_dicom(
        packed.reshape(3, 40, 96),
        elements={"Columns": 48, "SamplesPerPixel": 3, "PlanarConfiguration": 0,
                  "PhotometricInterpretation": "YBR_FULL_422"},
    )  # fmt: skip
    assert np.array_equal(read(data).pixels_THW, grey)


def test_a_palette_is_looked_up(grey: NDArray[np.uint8]) -> None:
    ramp = np.arange(256, dtype=np.uint16)
    table = ((255 - ramp) << 8).tobytes()
    palette = {f"{name}PaletteColorLookupTableData": table for name in ("Red", "Green", "Blue")}
    shape = {
        f"{name}PaletteColorLookupTableDescriptor": [256, 0, 16]
        for name in ("Red", "Green", "Blue")
    }
    clip = read(build_dicom(grey, colour="PALETTE COLOR", elements=palette | shape))
    assert np.array_equal(clip.pixels_THW, 255 - grey)


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_deep_pixels_become_bytes(grey: NDArray[np.uint8], bits: int) -> None:
    deep = grey.astype(np.uint16) << (bits - 8)
    assert np.array_equal(read(build_dicom(deep, bits_stored=bits)).pixels_THW, grey)


def test_inverted_grey_is_turned_around(grey: NDArray[np.uint8]) -> None:
    assert np.array_equal(read(build_dicom(grey, colour="MONOCHROME1")).pixels_THW, 255 - grey)


def test_a_single_image_is_a_clip_of_one_frame(grey: NDArray[np.uint8]) -> None:
    clip = read(build_dicom(grey[:1], elements={"NumberOfFrames": None, "FrameTime": "33"}))
    assert clip.pixels_THW.shape == (1, 40, 48)
    assert clip.frame_time_ms is None


def test_only_tissue_regions_count_and_the_largest_gives_the_scale(
    grey: NDArray[np.uint8],
) -> None:
    regions = [
        build_region((16, 0, 19, 23), spatial=4, kind=10),
        build_region((2, 2, 4, 4)),
        build_region((3, 2, 15, 23)),
    ]
    elements = {"SequenceOfUltrasoundRegions": regions, "FrameTime": "40"}
    clip = read(build_dicom(grey, elements=elements))
    assert clip.regions == (Region(3, 16, 2, 24), Region(2, 5, 2, 5))
    assert clip.mm_per_pixel == (0.5, 0.3)
    assert clip.frame_time_ms == 40


@pytest.mark.parametrize(
    ("spacing", "expected"),
    [(["0.4", "0.2"], (0.4, 0.2)), (["0", "0.2"], None), (["40", "40"], None), (None, None)],
)
def test_pixel_spacing_is_the_scale_where_no_region_has_one(
    grey: NDArray[np.uint8], spacing: list[str] | None, expected: tuple[float, float] | None
) -> None:
    without_units = build_region((3, 2, 15, 23))
    without_units.PhysicalUnitsXDirection = 0
    elements = {"PixelSpacing": spacing} if spacing else {}
    for regions in ([], [without_units]):
        data = build_dicom(grey, elements={**elements, "SequenceOfUltrasoundRegions": regions})
        assert read(data).mm_per_pixel == expected
    elements["SequenceOfUltrasoundRegions"] = [build_region((3, 2, 15, 23))]
    assert read(build_dicom(grey, elements=elements)).mm_per_pixel == (0.5, 0.3)


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({"FrameTime": "40", "CineRate": 10}, 40.0),
        ({"FrameTimeVector": ["0", "30", "34", "34"]}, 34.0),
        ({"FrameTimeVector": ["0"], "CineRate": 20}, 50.0),
        ({"FrameTime": "-3", "RecommendedDisplayFrameRate": 25}, 40.0),
        ({"FrameTime": "1e9"}, None),
        ({}, None),
    ],
)
def test_frame_time_is_the_first_believable_one(
    grey: NDArray[np.uint8], elements: dict[str, object], expected: float | None
) -> None:
    assert read(build_dicom(grey, elements=elements)).frame_time_ms == expected


def test_a_region_off_the_screen_is_not_believed(grey: NDArray[np.uint8]) -> None:
    regions = [build_region((2, 2, 60, 60))]
    clip = read(build_dicom(grey, elements={"SequenceOfUltrasoundRegions": regions}))
    assert clip.regions == ()
    assert clip.mm_per_pixel is None


def test_the_header_counts_what_goes_and_quotes_nothing(grey: NDArray[np.uint8]) -> None:
    header = SOURCE.open(build_dicom(grey, elements={"OperatorsName": "X"})).header()
    assert header.removed["names"] == 2
    assert PLANTED not in str(header.removed)


def test_files_without_an_id_belong_to_their_study(grey: NDArray[np.uint8]) -> None:
    def patient(**elements: str) -> str:
        return (
            SOURCE.open(build_dicom(grey, elements={"PatientID": "", **elements})).header().patient
        )

    assert patient(StudyInstanceUID="1.2") == patient(StudyInstanceUID="1.2")
    assert patient(StudyInstanceUID="1.2") != patient(StudyInstanceUID="1.3")


@pytest.mark.parametrize(
    ("text", "day"),
    [("20240229", date(2024, 2, 29)), ("20230229", None), ("", None)],
)
def test_study_and_day_are_read_for_their_pseudonyms(
    grey: NDArray[np.uint8], text: str, day: date | None
) -> None:
    elements = {"StudyDate": text, "StudyInstanceUID": "1.2"}
    header = SOURCE.open(build_dicom(grey, elements=elements)).header()
    assert (header.study, header.day) == ("1.2", day)


@pytest.mark.parametrize("modality", ["CT", "ECG", "MR"])
def test_another_modality_is_no_ultrasound(grey: NDArray[np.uint8], modality: str) -> None:
    assert code_of(build_dicom(grey, elements={"Modality": modality})) is Code.SECTOR_EMPTY


@pytest.mark.parametrize("keep", [0, 10, 131, 200, 600, 0.5, 0.99])
def test_a_truncated_file_is_unreadable(grey: NDArray[np.uint8], keep: float) -> None:
    data = build_dicom(grey)
    cut = data[: int(keep * len(data)) if isinstance(keep, float) else keep]
    assert code_of(cut) in {Code.DATA_UNREADABLE, Code.PIXELS_MISSING}


def test_cut_pixels_are_unreadable(grey: NDArray[np.uint8]) -> None:
    assert code_of(build_dicom(grey)[:-40]) is Code.DATA_UNREADABLE


def test_a_report_has_no_pixels(grey: NDArray[np.uint8]) -> None:
    assert code_of(build_dicom(grey, elements={"PixelData": None})) is Code.PIXELS_MISSING


@pytest.mark.parametrize("elements", [{"NumberOfFrames": 0}, {"Rows": 0}, {"PixelData": b""}])
def test_no_frames(grey: NDArray[np.uint8], elements: dict[str, object]) -> None:
    assert code_of(build_dicom(grey, elements=elements)) is Code.FRAMES_MISSING


def test_a_region_without_area_is_an_empty_sector(grey: NDArray[np.uint8]) -> None:
    regions = [build_region((9, 9, 3, 3))]
    data = build_dicom(grey, elements={"SequenceOfUltrasoundRegions": regions})
    assert code_of(data) is Code.SECTOR_EMPTY


def test_a_header_that_claims_too_much_is_unreadable(grey: NDArray[np.uint8]) -> None:
    huge = {"Rows": 65535, "Columns": 65535, "NumberOfFrames": 10**6}
    assert code_of(build_dicom(grey, elements=huge)) is Code.DATA_UNREADABLE


@pytest.mark.parametrize("syntax", [None, RLELossless])
def test_random_damage_never_escapes(
    grey: NDArray[np.uint8], seed: int, syntax: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    whole = build_dicom(grey, **({"syntax": syntax} if syntax else {}))  # type: ignore[arg-type]
    rng = np.random.default_rng(seed)
    for _ in range(150):
        damaged = bytearray(whole)
        for place in rng.integers(128, len(whole), rng.integers(1, 12)):
            damaged[place] = int(rng.integers(256))
        with contextlib.suppress(EchoFedError):
            read_all(bytes(damaged))
            continue
        assert code_of(bytes(damaged)) in READABLE
    assert caplog.text == ""  # the library's log would quote damaged elements


def test_files_are_known_by_suffix_or_prefix(tmp_path: Path, grey: NDArray[np.uint8]) -> None:
    for name, data in (("a", build_dicom(grey)), ("b.DCM", b"cut"), ("c.txt", b"text"), ("d", b"")):
        (tmp_path / name).write_bytes(data)
    known = {path.name for path in tmp_path.iterdir() if SOURCE.recognises(path)}
    assert known == {"a", "b.DCM"}


def test_every_source_of_the_table_loads() -> None:
    assert all(hasattr(SOURCES[name], "open") for name in SOURCES.names())


def test_real_files_read_as_their_list_says(real_data: Path) -> None:
    folder = real_data / "dicom_us"
    rows = (folder / "manifest.csv").read_text().splitlines()
    for file in sorted(folder.glob("*.dcm")):
        clip = read(file.read_bytes())
        row = next(row for row in rows if row.startswith(file.name))
        sizes = [int(size) for size in re.findall(r",(\d+),(\d+),(\d+),[A-Z]", row)[0]]
        assert clip.pixels_THW.shape == (sizes[2], *sizes[:2])
        assert clip.pixels_THW.max() > 100
