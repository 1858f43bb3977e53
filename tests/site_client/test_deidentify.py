"""What is kept is tissue and scale; pseudonyms are stable under one key only."""

import os
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from shared.echo.detection import Region
from shared.errors import Code, EchoFedError
from shared.testing.dicom import speckled_fan
from site_client.datasets.raw import RawClip
from site_client.deidentify import Pseudonyms, deidentify, method_codes, require_allowed

SIZE = (120, 160)
REGION = Region(12, 110, 5, 155)


def screen(seed: int, *, with_fan: bool = True) -> RawClip:
    """A fan, a banner above the region and a logo inside it."""
    pixels = speckled_fan(SIZE, 4, seed) * np.uint8(with_fan)
    pixels[:, 2:8, 10:90:2] = 255
    pixels[:, 20:26, 8:16] = 200
    return RawClip(pixels, (REGION,), (0.5, 0.5), 33.0)


def test_sector_keeps_the_fan_and_nothing_else(seed: int) -> None:
    raw = screen(seed)
    clip = deidentify(raw, "sector")
    assert clip.mask_HW is not None
    assert np.array_equal(clip.pixels_THW[:, clip.mask_HW], raw.pixels_THW[:, clip.mask_HW])
    assert not clip.pixels_THW[:, ~clip.mask_HW].any()
    assert not clip.pixels_THW[:, :12].any()
    assert not clip.pixels_THW[:, 20:26, 8:16].any()
    assert clip.fan is not None
    assert clip.mm_per_pixel == (0.5, 0.5)


def test_region_keeps_its_furniture_but_no_banner(seed: int) -> None:
    raw = screen(seed)
    clip = deidentify(raw, "region")
    rows, columns = REGION.slices()
    assert np.array_equal(clip.pixels_THW[:, rows, columns], raw.pixels_THW[:, rows, columns])
    assert clip.pixels_THW[:, 20:26, 8:16].all()
    assert not clip.pixels_THW[:, :12].any()
    assert clip.mask_HW is not None


def test_screen_keeps_everything_and_still_knows_the_sector(seed: int) -> None:
    raw = screen(seed)
    clip = deidentify(raw, "screen")
    assert np.array_equal(clip.pixels_THW, raw.pixels_THW)
    assert clip.mask_HW is not None


def test_what_cannot_be_found_is_not_kept(seed: int) -> None:
    blank = screen(seed, with_fan=False)
    with pytest.raises(EchoFedError) as caught:
        deidentify(blank, "sector")
    assert caught.value.code is Code.SECTOR_EMPTY
    assert deidentify(blank, "region").mask_HW is None
    undeclared = RawClip(screen(seed).pixels_THW, (), None, None)
    with pytest.raises(EchoFedError) as caught:
        deidentify(undeclared, "region")
    assert caught.value.code is Code.SECTOR_EMPTY


def test_whole_screens_of_real_patients_are_refused() -> None:
    require_allowed("screen", "phantom")
    require_allowed("sector", "real")
    with pytest.raises(EchoFedError) as caught:
        require_allowed("screen", "real")
    assert caught.value.code is Code.CONFIG_INVALID


def test_pseudonyms_depend_on_the_key_and_on_nothing_else() -> None:
    one, other = Pseudonyms(b"a" * 32), Pseudonyms(b"b" * 32)
    assert one.patient("MRN1") == Pseudonyms(b"a" * 32).patient("MRN1")
    assert one.patient("MRN1") != other.patient("MRN1")
    assert one.patient("MRN1") != one.patient("MRN2")
    assert one.clip(b"file", "sector") != one.clip(b"file", "region")
    assert "MRN1" not in one.patient("MRN1")


def test_days_move_into_the_past_by_one_number_for_each_patient() -> None:
    pseudonyms, other = Pseudonyms(b"a" * 32), Pseudonyms(b"b" * 32)
    first, second = date(2024, 2, 28), date(2024, 3, 1)
    numbers = set()
    for patient in (f"patient{number}" for number in range(50)):
        moved = [pseudonyms.moved(day, patient) for day in (first, second)]
        assert moved[0] is not None
        assert moved[1] is not None
        assert moved[1] - moved[0] == second - first
        number = first - moved[0]
        assert timedelta(days=0) < number <= timedelta(days=3653)
        numbers.add(number)
    assert len(numbers) > 40
    assert pseudonyms.moved(first, "patient1") != other.moved(first, "patient1")
    assert pseudonyms.moved(date(1, 1, 1), "patient1") is None


def test_the_method_is_named_in_dicom_s_own_codes() -> None:
    from pydicom.sr.codedict import codes

    names = {"113100": "BasicApplicationConfidentialityProfile", "113101": "CleanPixelDataOption",
             "113103": "CleanGraphicsOption",
             "113107": "RetainLongitudinalTemporalInformationModifiedDatesOption"}  # fmt: skip
    assert {code: getattr(codes.DCM, name).value for code, name in names.items()} == {
        code: code for code in names
    }
    assert set(method_codes("sector")) == set(names)
    assert "113101" not in method_codes("region")


def test_equal_pixels_have_one_key_however_they_lie_in_memory(seed: int) -> None:
    one, pixels = Pseudonyms(b"a" * 32), screen(seed).pixels_THW
    assert one.pixels(pixels) == one.pixels(np.asfortranarray(pixels))
    assert one.pixels(pixels) != Pseudonyms(b"b" * 32).pixels(pixels)
    assert one.pixels(pixels) != one.pixels(pixels.transpose(0, 2, 1).copy())
    zeros = np.zeros((2, 3, 4), np.uint8)
    assert one.pixels(zeros) != one.pixels(zeros.reshape(2, 4, 3))


def test_the_mark_of_a_file_follows_name_size_time_and_way_of_reading(tmp_path: Path) -> None:
    one, path = Pseudonyms(b"a" * 32), tmp_path / "Verdichio.dcm"
    path.write_bytes(b"1234")
    os.utime(path, ns=(1, 1))
    first, before = one.file(path.stat(), "x/Verdichio.dcm", "1 dicom"), path.stat()
    os.utime(path, ns=(2, 1))
    assert one.file(path.stat(), "x/Verdichio.dcm", "1 dicom") == first
    os.utime(path, ns=(1, 2))
    assert one.file(path.stat(), "x/Verdichio.dcm", "1 dicom") != first
    for name, how in (("y/Verdichio.dcm", "1 dicom"), ("x/Verdichio.dcm", "2 dicom")):
        assert one.file(before, name, how) != first
    assert "Verdichio" not in first
