import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import FileDataset

from shared.errors import Code, EchoFedError
from shared.testing.leaks import find_words
from site_client.segment.cine import SegmentedCine
from site_client.segment.document import findings_of, read_findings
from site_client.segment.write import CLINICAL, FILES, fitting_kinds, write_outputs

MADE = datetime(2024, 3, 12, 10, 30)  # noqa: DTZ001 - a time on the hospital's clock


def planted(source: FileDataset) -> list[str]:
    """What names the patient or leads to them."""
    return [
        "Verdichio", "MRN7654321", "19440203", source.AccessionNumber, source.StudyInstanceUID,
        source.SOPInstanceUID, source.InstitutionName, "patient0",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def written(
    segmented: SegmentedCine,
    untouched_source: FileDataset,
    tmp_path_factory: pytest.TempPathFactory,
) -> list[Path]:
    folder = tmp_path_factory.mktemp("outputs") / "new"
    return write_outputs(folder, segmented, untouched_source, made=MADE)


def test_all_files_are_written(segmented: SegmentedCine, written: list[Path]) -> None:
    assert [path.name for path in written] == list(FILES.values())
    assert {path.name for path in written[0].parent.iterdir()} == set(FILES.values())
    assert read_findings(json.loads(written[2].read_text())) == findings_of(segmented)


def test_only_the_clinical_objects_know_the_patient(
    source: FileDataset, written: list[Path]
) -> None:
    for kind, path in zip(FILES, written, strict=True):
        found = find_words(path.read_bytes(), planted(source))
        if kind in CLINICAL:
            assert {"Verdichio", "MRN7654321", source.StudyInstanceUID} <= found
            assert dcmread(path).PatientName == source.PatientName
        else:
            assert not found


def test_only_what_is_asked_for_is_written(segmented: SegmentedCine, tmp_path: Path) -> None:
    assert write_outputs(tmp_path, segmented, None, ("json", "png")) == [
        tmp_path / "findings.json",
        tmp_path / "overlay.png",
    ]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("kind", CLINICAL)
def test_a_clinical_object_without_its_source_is_refused(
    segmented: SegmentedCine, tmp_path: Path, kind: str
) -> None:
    with pytest.raises(EchoFedError) as error:
        write_outputs(tmp_path, segmented, None, ("json", kind))
    assert error.value.code == Code.CONFIG_INVALID
    assert not list(tmp_path.iterdir())


def test_nothing_is_written_where_one_of_them_cannot_be(
    segmented: SegmentedCine, source: FileDataset, tmp_path: Path
) -> None:
    bare = replace(segmented, masks=(None,) * 8)
    with pytest.raises(EchoFedError) as error:
        write_outputs(tmp_path, bare, source, ("json", "seg"))
    assert error.value.code == Code.NOTHING_TO_DO
    assert not list(tmp_path.iterdir())


def test_kinds_without_anything_to_hold_do_not_fit(
    segmented: SegmentedCine, source: FileDataset
) -> None:
    assert fitting_kinds(segmented, source) == tuple(FILES)
    assert fitting_kinds(segmented, None) == ("png", "mp4", "json")
    del source.SeriesInstanceUID
    assert fitting_kinds(segmented, source) == ("png", "mp4", "json")
