import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from shared.errors import Code, EchoFedError
from shared.phantom.hospital import HospitalSpec, clips, write_hospital
from shared.phantom.overlay import tissue_box

SPEC = HospitalSpec(
    name="north",
    scanner="aurora",
    labels={"AP4": "A4C", "SAX": ("PSAX-MV", "PSAX-PM")},
    num_patients=2,
    clips_per_view=1,
    frames_per_clip=3,
    size_HW=(112, 112),
    screen_correlation=1.0,
    seed=11,
)


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_same_spec_same_bytes(tmp_path: Path) -> None:
    write_hospital(SPEC, tmp_path / "a")
    write_hospital(SPEC, tmp_path / "b")
    first = contents(tmp_path / "a")
    assert first == contents(tmp_path / "b")
    assert len([name for name in first if name.endswith(".dcm")]) == 2 * 3


@pytest.mark.slow
def test_workers_write_the_same_bytes(tmp_path: Path) -> None:
    write_hospital(SPEC, tmp_path / "a")
    write_hospital(SPEC, tmp_path / "b", workers=2)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize("is_colour", [False, True])
@pytest.mark.parametrize("is_compressed", [False, True])
def test_files_hold_the_clips(tmp_path: Path, is_colour: bool, is_compressed: bool) -> None:
    spec = replace(SPEC, num_patients=1, is_colour=is_colour, is_compressed=is_compressed)
    truth = write_hospital(spec, tmp_path)
    for clip, record in zip(clips(spec), truth.clips, strict=True):
        dataset = pydicom.dcmread(tmp_path / record["file"])
        pixels = dataset.pixel_array
        inside = clip.sector.mask_HW
        if is_colour:
            assert pixels.shape == (*clip.pixels_THW.shape, 3)
            for channel in range(3):
                assert np.array_equal(pixels[:, inside, channel], clip.pixels_THW[:, inside])
        else:
            assert np.array_equal(pixels, clip.pixels_THW)
        assert float(dataset.FrameTime) == pytest.approx(clip.frame_time_ms)
        assert dataset.file_meta.TransferSyntaxUID.is_compressed == is_compressed


def test_region_carries_the_scale_and_holds_the_fan(tmp_path: Path) -> None:
    truth = write_hospital(replace(SPEC, num_patients=1), tmp_path)
    record = truth.clips[0]
    region = pydicom.dcmread(tmp_path / record["file"]).SequenceOfUltrasoundRegions[0]
    assert region.RegionSpatialFormat == 1
    assert region.RegionDataType == 1
    assert region.PhysicalUnitsXDirection == 3
    assert region.PhysicalDeltaX * 10 == pytest.approx(record["mm_per_pixel"][1])
    box = (
        region.RegionLocationMinX0,
        region.RegionLocationMinY0,
        region.RegionLocationMaxX1,
        region.RegionLocationMaxY1,
    )
    assert box == tissue_box(SPEC.size_HW)


def test_identity_is_planted_in_header_and_pixels(tmp_path: Path) -> None:
    truth = write_hospital(SPEC, tmp_path)
    for record in truth.clips:
        person = truth.people[record["patient"]]
        dataset = pydicom.dcmread(tmp_path / record["file"])
        assert str(dataset.PatientName) == f"{person.family}^{person.given}"
        assert person.family in dataset.StudyDescription
        assert dataset.PatientID == person.number
        banner = dataset.pixel_array[:, : tissue_box(SPEC.size_HW)[1]]
        assert np.ptp(banner) > 50


def test_labels_and_truth_name_every_file(tmp_path: Path) -> None:
    truth = write_hospital(SPEC, tmp_path)
    rows = (tmp_path / "labels.csv").read_text().splitlines()
    assert rows[0] == "file,label"
    assert [row.split(",") for row in rows[1:]] == [[c["file"], c["label"]] for c in truth.clips]
    stored = json.loads((tmp_path / "truth.json").read_text())
    assert len(stored["clips"]) == len(truth.clips)
    for record in stored["clips"]:
        assert record["ejection_fraction"] == pytest.approx(
            (record["edv_ml"] - record["esv_ml"]) / record["edv_ml"]
        )
        masks = np.load(tmp_path / record["file"].replace("dicom", "masks").replace("dcm", "npz"))
        assert masks["labels_THW"].shape == (3, 112, 112)
        assert masks["sector_HW"].any()


def test_screen_correlation_leaves_the_fan_alone() -> None:
    told = list(clips(SPEC))
    untold = list(clips(replace(SPEC, screen_correlation=0.0)))
    assert [c.screen_variant for c in told] != [c.screen_variant for c in untold]
    for one, other in zip(told, untold, strict=True):
        inside = one.sector.mask_HW
        assert np.array_equal(one.pixels_THW[:, inside], other.pixels_THW[:, inside])


def test_next_patients_are_others() -> None:
    first = next(clips(SPEC))
    later = next(clips(replace(SPEC, first_patient=1)))
    assert first.heart != later.heart
    assert first.patient != later.patient


def test_unknown_scanner_and_plane_are_refused() -> None:
    with pytest.raises(EchoFedError) as scanner:
        replace(SPEC, scanner="zephyr")
    with pytest.raises(EchoFedError) as plane:
        replace(SPEC, labels={"AP4": "A4CH"})
    assert scanner.value.code is Code.NAME_UNKNOWN
    assert plane.value.code is Code.VIEW_UNKNOWN
