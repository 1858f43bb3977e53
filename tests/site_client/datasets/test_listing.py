"""A listing says which files are read; patients of a public set never stand in two splits."""

from pathlib import Path

import pytest

from shared.errors import Code, EchoFedError
from site_client.datasets.labels import LabelRow
from site_client.datasets.listing import (
    Listing,
    by_alias,
    choose_files,
    list_labelled,
    list_published,
    read_table,
    source_of,
)


def test_a_site_reads_every_file_of_its_source_and_a_layout_the_listed_ones(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "notes.txt", ".hidden.png"):
        (tmp_path / name).touch()
    rows = {"b.png": LabelRow("A4C", None), "gone.png": LabelRow("A4C", None)}
    site = Listing(rows, {}, "images")
    layout = Listing(rows, {}, "images", is_complete=True)
    assert choose_files(tmp_path, site) == ([tmp_path / "a.png", tmp_path / "b.png"], 1, 1)
    assert choose_files(tmp_path, layout) == ([tmp_path / "b.png"], 2, 1)


def test_the_most_held_out_split_of_a_patient_counts() -> None:
    splits = {"a": "train", "b": "test", "c": "val", "d": None}
    rows = {name: LabelRow("x", split, "p") for name, split in splits.items()}  # type: ignore[arg-type]
    rows["e"] = LabelRow("x", "train", "q")
    listing = list_published("set", rows, {"x": ["A4C"]}, source="images", licence="")
    assert {row.split for name, row in listing.rows.items() if name != "e"} == {"test"}
    assert listing.rows["e"].split == "train"


def test_only_labels_that_occur_are_mapped() -> None:
    rows = {"a": LabelRow("x", None), "b": LabelRow("", None)}
    listing = list_published(
        "set", rows, {"x": ["A2C", "A4C"], "y": ["PLAX"]}, source="images", licence=""
    )
    assert listing.views == {"x": ("A4C", "A2C")}


def test_names_unknown_to_the_ontology_are_left_open() -> None:
    assert by_alias(["AP4", "nonsense"]) == {"AP4": ("A4C",), "nonsense": ()}


def test_a_site_may_not_call_whole_pictures_tissue(tmp_path: Path) -> None:
    with pytest.raises(EchoFedError, match="only layouts") as caught:
        list_labelled(tmp_path, "cropped-video", labels=None, label_map=None, licence="")
    assert caught.value.code is Code.CONFIG_INVALID
    assert "--source video" in caught.value.hint


@pytest.mark.parametrize("data", [b"\xff\xfe", b"a\n1\n"])
def test_a_table_without_its_columns_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(EchoFedError) as caught:
        read_table(tmp_path / "t.csv", {"b"})
    assert caught.value.code is Code.CONFIG_INVALID


def test_short_and_long_rows_of_a_table_are_read(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1\n1,2,3\n")
    assert read_table(tmp_path / "t.csv", {"a"}) == [{"a": "1", "b": ""}, {"a": "1", "b": "2"}]


def test_a_single_file_finds_its_reader(tmp_path: Path) -> None:
    (tmp_path / "nameless").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "odd.xyz").write_bytes(b"?")
    told = {"a.PNG": "images", "b.avi": "video", "c.nii.gz": "nifti", "d.mhd": "mhd"}
    for name in told:
        (tmp_path / name).touch()
    assert {name: source_of(tmp_path / name) for name in told} == told
    assert source_of(tmp_path / "nameless") == source_of(tmp_path / "odd.xyz") == "dicom"
