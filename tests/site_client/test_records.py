"""Of equal pixels one clip counts, and what labels say of a patient counts for all its clips."""

from dataclasses import replace

import pytest

from shared.echo.manifest import ClipRecord, Split
from shared.errors import Code, EchoFedError
from site_client.datasets.labels import LabelRow
from site_client.journal import JournalEntry
from site_client.records import ReadFile, Told, build_records


def read(position: int, patient: str, pixels: str) -> ReadFile:
    record = ClipRecord(f"key{position}", patient, "", "train", 3, f"{position}", "0" * 64)
    return ReadFile(position, JournalEntry(f"mark{position}", record, pixels))


def told(
    *rows: tuple[str, Split | None], earlier: tuple[ClipRecord, ...] = (), **patients: str
) -> Told:
    named = {int(place.removeprefix("at")): patient for place, patient in patients.items()}
    return Told({place: LabelRow(*row) for place, row in enumerate(rows)}, named, earlier)


def build(
    reads: list[ReadFile], known: Told
) -> tuple[dict[str, ClipRecord], list[tuple[int, str]]]:
    records, copies = build_records(reads, known, val_fraction=0.1, test_fraction=0.25)
    assert [record.key for record in records] == sorted(record.key for record in records)
    return {record.key: record for record in records}, [(c.position, c.reason) for c in copies]


def test_the_first_of_equal_pixels_counts_and_the_others_say_what_differs() -> None:
    reads = [read(0, "p", "same"), read(1, "p", "same"), read(2, "q", "same"), read(3, "p", "same")]
    rows = [("A4C", None), ("A4C", None), ("A4C", None), ("A2C", None)]
    records, copies = build(reads, told(*rows))
    assert records.keys() == {"key0"}
    plain = "a file shows the same pixels as another"
    assert copies == [
        (1, plain),
        (2, f"{plain}, which is of another patient"),
        (3, f"{plain}, which has another label"),
    ]


def test_a_copy_that_comes_later_and_stands_first_changes_nothing() -> None:
    reads = [read(0, "p", "same"), read(1, "q", "same")]
    rows = [("A4C", None), ("A2C", None)]
    earlier = replace(reads[1].record, label="A2C", split="test")
    records, _ = build(reads, told(*rows, earlier=(earlier,)))
    assert records == {"key1": earlier}


def test_the_patient_that_the_labels_name_counts() -> None:
    records, _ = build([read(0, "p", "a")], told(("A4C", None), at0="named"))
    assert records["key0"].patient == "named"
    assert records["key0"].label == "A4C"


def test_a_split_said_of_a_copy_counts_for_its_patient() -> None:
    reads = [read(0, "p", "same"), read(1, "q", "same"), read(2, "q", "other")]
    records, _ = build(reads, told(("", None), ("", "test"), ("", None)))
    assert records.keys() == {"key0", "key2"}
    assert records["key2"].split == "test"


def test_labels_may_not_tear_a_patient_apart() -> None:
    reads = [read(0, "p", "a"), read(1, "p", "b")]
    with pytest.raises(EchoFedError) as caught:
        build(reads, told(("", "train"), ("", "test")))
    assert caught.value.code is Code.PATIENT_IN_TWO_SPLITS


def test_labels_overrule_the_split_of_before() -> None:
    earlier = read(0, "p", "a").record
    records, _ = build([read(0, "p", "a")], told(("", "val"), earlier=(earlier,)))
    assert records["key0"].split == "val"
