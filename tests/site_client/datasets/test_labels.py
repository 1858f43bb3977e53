"""Labels are read as written; what cannot be meant is refused with the nearest thing that can."""

from pathlib import Path

import pytest

from shared.errors import Code, EchoFedError
from site_client.datasets.labels import LabelRow, read_label_table


def write(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8", errors="surrogateescape")
    return path


def test_rows_carry_label_and_split(tmp_path: Path) -> None:
    text = "\ufefffile,label,split,other\na/1.dcm,AP4,test,x\na\\2.dcm,,,\n"
    rows = read_label_table(write(tmp_path / "l.csv", text), tmp_path).by_file
    assert rows == {"a/1.dcm": LabelRow("AP4", "test"), "a/2.dcm": LabelRow("", None)}


def test_a_patient_column_is_read(tmp_path: Path) -> None:
    text = "file,label,patient\n1.png,AP4,4711 \n2.png,AP4,\n"
    rows = read_label_table(write(tmp_path / "l.csv", text), tmp_path).by_file
    assert rows == {"1.png": LabelRow("AP4", None, "4711"), "2.png": LabelRow("AP4", None, None)}


def test_files_may_be_relative_to_the_labels_file(tmp_path: Path) -> None:
    (tmp_path / "dicom").mkdir()
    (tmp_path / "dicom" / "1.dcm").touch()
    path = write(tmp_path / "l.csv", "file,label\ndicom/1.dcm,A4C\n")
    assert set(read_label_table(path, tmp_path / "dicom").by_file) == {"1.dcm"}
    assert set(read_label_table(path, tmp_path).by_file) == {"dicom/1.dcm"}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("name,view\nx,y\n", "columns file and label"),
        ("file,label,split\nx,A4C,training\n", "'training'"),
        ("file,label\nx,A4C\nx,A2C\n", "row 3"),
        ("file,label\nx,\udcff\n", "UTF-8"),
        ("sop_uid\n1.2\n", "columns file and label"),
        ("file,sop_uid,label\nx,1.2,A4C\n", "row 2 .* both"),
        ("file,sop_uid,label\n,,A4C\n", "row 2 .* neither"),
    ],
)
def test_a_wrong_labels_file_is_refused(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(EchoFedError, match=named) as caught:
        read_label_table(write(tmp_path / "l.csv", text), tmp_path)
    assert caught.value.code is Code.CONFIG_INVALID


def test_rows_may_name_instances_instead_of_files(tmp_path: Path) -> None:
    text = "sop_uid,label,split,file\n1.2.3 ,AP4,test,\n,LAX,,a.dcm\n1.2.3,AP4,test,\n"
    table = read_label_table(write(tmp_path / "l.csv", text), tmp_path)
    assert table.by_instance == {"1.2.3": LabelRow("AP4", "test")}
    assert table.by_file == {"a.dcm": LabelRow("LAX", None)}
