"""Labels are read as written; what cannot be meant is refused with the nearest thing that can."""

from pathlib import Path

import pytest

from shared.errors import Code, EchoFedError
from site_client.datasets.labels import LabelRow, read_label_map, read_label_rows


def write(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8", errors="surrogateescape")
    return path


def test_rows_carry_label_and_split(tmp_path: Path) -> None:
    text = "\ufefffile,label,split,other\na/1.dcm,AP4,test,x\na\\2.dcm,,,\n"
    rows = read_label_rows(write(tmp_path / "l.csv", text), tmp_path)
    assert rows == {"a/1.dcm": LabelRow("AP4", "test"), "a/2.dcm": LabelRow("", None)}


def test_a_patient_column_is_read(tmp_path: Path) -> None:
    text = "file,label,patient\n1.png,AP4,4711 \n2.png,AP4,\n"
    rows = read_label_rows(write(tmp_path / "l.csv", text), tmp_path)
    assert rows == {"1.png": LabelRow("AP4", None, "4711"), "2.png": LabelRow("AP4", None, None)}


def test_files_may_be_relative_to_the_labels_file(tmp_path: Path) -> None:
    (tmp_path / "dicom").mkdir()
    (tmp_path / "dicom" / "1.dcm").touch()
    path = write(tmp_path / "l.csv", "file,label\ndicom/1.dcm,A4C\n")
    assert set(read_label_rows(path, tmp_path / "dicom")) == {"1.dcm"}
    assert set(read_label_rows(path, tmp_path)) == {"dicom/1.dcm"}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("name,view\nx,y\n", "columns file and label"),
        ("file,label,split\nx,A4C,training\n", "'training'"),
        ("file,label\nx,A4C\nx,A2C\n", "row 3"),
        ("file,label\nx,\udcff\n", "UTF-8"),
    ],
)
def test_a_wrong_labels_file_is_refused(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(EchoFedError, match=named) as caught:
        read_label_rows(write(tmp_path / "l.csv", text), tmp_path)
    assert caught.value.code is Code.CONFIG_INVALID


def test_without_a_map_labels_are_views(tmp_path: Path) -> None:
    labels = read_label_map(None, {"x": LabelRow("4CH", None), "y": LabelRow("", None)})
    assert labels == {"4CH": ("A4C",)}


def test_an_unknown_label_names_the_nearest(tmp_path: Path) -> None:
    path = write(tmp_path / "m.yaml", "apical four: A4C\nSAX: [PSAX-MV, PSAX-PM]\n")
    assert read_label_map(path, {"x": LabelRow("SAX", None)}) == {"SAX": ("PSAX-MV", "PSAX-PM")}
    with pytest.raises(EchoFedError, match="apical fuor") as caught:
        read_label_map(path, {"x": LabelRow("apical fuor", None)})
    assert caught.value.code is Code.LABEL_UNMAPPED
    assert "'apical four'" in caught.value.hint
    with pytest.raises(EchoFedError) as without:
        read_label_map(None, {"x": LabelRow("A4CC", None)})
    assert without.value.code is Code.LABEL_UNMAPPED
    assert "A4C" in without.value.hint


@pytest.mark.parametrize("text", ["- A4C\n", "a: [\n", ""])
def test_a_map_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(EchoFedError) as caught:
        read_label_map(write(tmp_path / "m.yaml", text), {})
    assert caught.value.code is Code.LABEL_MAP_INVALID
