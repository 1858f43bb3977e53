"""A drawn image as DICOM says that it is synthetic, names nobody, and is never taken for real."""

import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import UltrasoundImageStorage

from shared.errors import Code, EchoFedError
from shared.phantom.hospital import HospitalSpec, write_hospital
from shared.testing.drawers import DRAWER_CARD
from site_client.ingest import IngestRequest, ingest
from site_client.ingested import IngestReport
from site_client.settings import IngestSettings
from site_client.store import SiteStore
from site_client.synthesize.dicom import save_dicom

VALIDATOR = shutil.which("dciodvfy")
EXCUSED = (
    "(0008,001c)",  # Synthetic Data is younger than the validator's dictionary
    "DICOMDIR",  # there was no study, so it has no day and no number
    "Retired Person Name form",  # nobody has no given name
)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SETTINGS = IngestSettings(keep_pixels="region", text="blank", val_fraction=0.25, workers=1)


@pytest.fixture
def folder(yard: Any, tmp_path: Path) -> Path:
    save_dicom(yard.store, yard.run(num=8).manifest, tmp_path / "dicom")
    return tmp_path / "dicom"


def take(store: SiteStore, folder: Path, origin: Any, dataset: str = "came") -> IngestReport:
    return ingest(folder, store, IngestRequest(dataset, "north", origin), SETTINGS, now=NOW)


def test_a_file_tells_what_drew_it_from_what(yard: Any, folder: Path) -> None:
    for record in yard.store.manifest("drawn").clips:
        dataset, clip = dcmread(folder / f"{record.key}.dcm"), yard.store.clip("drawn", record)
        stamp = record.synthesis
        assert dataset.SOPClassUID == UltrasoundImageStorage
        assert dataset[0x0008, 0x001C].value == "YES"
        assert list(dataset.ImageType[:2]) == ["DERIVED", "PRIMARY"]
        assert dataset.BurnedInAnnotation == "NO"
        (maker,) = dataset.ContributingEquipmentSequence
        assert maker.ManufacturerModelName == DRAWER_CARD.id
        assert DRAWER_CARD.weights_sha256 in maker.ContributionDescription
        assert str(stamp.seed) in dataset.DerivationDescription
        assert stamp.map_sha256 in dataset.DerivationDescription
        np.testing.assert_array_equal(dataset.pixel_array, clip.pixels_THW[0])


def test_a_file_names_nobody(yard: Any, folder: Path) -> None:
    for path in folder.iterdir():
        dataset = dcmread(path)
        assert str(dataset.PatientName) == "SYNTHETIC"
        assert dataset.PatientID.startswith("SYNTHETIC-")
        assert dataset.PatientBirthDate == dataset.StudyDate == dataset.StudyID == ""
        assert "InstitutionName" not in dataset
    assert len({dcmread(path).SOPInstanceUID for path in folder.iterdir()}) == 8


def test_a_file_keeps_hearts_together_without_the_pseudonyms_of_the_site(
    yard: Any, folder: Path
) -> None:
    hearts: dict[str, set[str]] = {}
    for record in yard.store.manifest("drawn").clips:
        dataset = dcmread(folder / f"{record.key}.dcm")
        hearts.setdefault(record.patient, set()).add(dataset.PatientID)
        assert record.patient not in dataset.PatientID
    told = [one for ids in hearts.values() for one in ids]
    assert len(told) == len(set(told)) == len(hearts)


def test_the_same_dataset_gives_the_same_files(yard: Any, folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    save_dicom(yard.store, yard.store.manifest("drawn"), folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.skipif(VALIDATOR is None, reason="dciodvfy is not here: apt-get install dicom3tools")
def test_a_validator_finds_no_error(folder: Path) -> None:
    assert VALIDATOR is not None
    path = next(folder.iterdir())
    ran = subprocess.run([VALIDATOR, "-new", path], capture_output=True, text=True)
    said = (ran.stdout + ran.stderr).splitlines()
    wrong = [line for line in said if "Error" in line or "Warning" in line]
    assert [line for line in wrong if not any(known in line for known in EXCUSED)] == []
    assert any("USImage" in line for line in said)


def test_files_that_say_so_make_a_synthetic_dataset_without_test_clips(
    yard: Any, folder: Path
) -> None:
    manifest = take(yard.store, folder, "synthetic").manifest
    assert manifest.origin == "synthetic"
    assert len(manifest.clips) == 8
    assert {clip.split for clip in manifest.clips} == {"train", "val"}


@pytest.mark.parametrize("origin", ["real", "phantom"])
def test_they_are_never_taken_for_pictures_of_anybody(yard: Any, folder: Path, origin: Any) -> None:
    with pytest.raises(EchoFedError) as caught:
        take(yard.store, folder, origin)
    assert caught.value.code is Code.NOTHING_INGESTED
    assert f"{Code.ORIGIN_UNFIT.name}: 8" in caught.value.message
    assert "came" not in yard.store.datasets()


def test_among_real_files_they_are_left_out_and_the_other_way_round(
    yard: Any, folder: Path, tmp_path: Path
) -> None:
    spec = HospitalSpec("south", "borealis", {"AP4": "A4C"}, 2, 1, 2, (120, 160), 0.0, 3)
    write_hospital(spec, tmp_path / "south")
    for path in (tmp_path / "south" / "dicom").rglob("*.dcm"):
        shutil.copy(path, folder / f"{path.parent.name}-{path.name}")
    real = take(yard.store, folder, "phantom", "imaged")
    drawn = take(yard.store, folder, "synthetic", "came")
    assert (len(real.manifest.clips), len(drawn.manifest.clips)) == (2, 8)
    for report, num in ((real, 8), (drawn, 2)):
        assert [drop.code for drop in report.dropped] == [Code.ORIGIN_UNFIT.name] * num


@pytest.mark.parametrize(("dataset", "origin"), [("traced", "synthetic"), ("drawn", "real")])
def test_no_dataset_changes_sides(yard: Any, folder: Path, dataset: str, origin: Any) -> None:
    before = yard.store.manifest(dataset)
    with pytest.raises(EchoFedError) as caught:
        take(yard.store, folder, origin, dataset)
    assert caught.value.code is Code.ORIGIN_UNFIT
    assert yard.store.manifest(dataset) == before
