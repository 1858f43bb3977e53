"""A study's receipt counts what was done to it, names nobody, and is written once."""

import json
from pathlib import Path

from shared.echo.manifest import ClipRecord
from shared.ledger import Ledger
from site_client.receipts import KIND, Treated, not_in_ledger, study_receipts

KEPT = ClipRecord("k1", "patient", "A4C", "train", 3, "f", "1" * 64, num_blanked=70)
MORE = ClipRecord("k2", "patient", "A2C", "train", 5, "f", "2" * 64, num_blanked=30)
FILES = [
    Treated("s1", KEPT, {"names": 2, "private": 1}),
    Treated("s2", None, {"names": 2}, "SECTOR_EMPTY"),
    Treated("s1", MORE, {"names": 1}),
    Treated("s1", None, {"dates": 4}, "PIXELS_MISSING"),
    Treated("s3", None, {"names": 2}, "SECTOR_EMPTY"),
]


def test_every_study_has_one_receipt_with_its_counts() -> None:
    receipts = study_receipts(FILES, dataset="demo", kept="sector")
    assert len(receipts) == 3
    (full,) = [receipt for receipt in receipts if receipt["clips"]]
    assert full["header_elements_removed"] == {"dates": 4, "names": 3, "private": 1}
    assert (full["files"], full["frames"], full["pixels_blanked"]) == (3, 8, 100)
    assert full["dropped"] == {"PIXELS_MISSING": 1}
    assert full["method_codes"] == ["113100", "113101", "113103", "113107"]
    assert len(full["content_sha256"]) == 64
    text = json.dumps(receipts)
    assert not any(word in text for word in ("patient", "s1", "s2", "k1"))


def test_receipts_do_not_depend_on_the_order_of_files() -> None:
    backwards = study_receipts(FILES[::-1], dataset="demo", kept="sector")
    assert backwards == study_receipts(FILES, dataset="demo", kept="sector")


def test_a_receipt_is_written_once_and_equal_ones_as_often_as_they_are(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    receipts = study_receipts(FILES, dataset="demo", kept="sector")
    assert len(not_in_ledger(receipts, ledger)) == 3
    ledger.append_all([(KIND, receipt) for receipt in receipts[:2]], actor="north")
    missing = not_in_ledger(receipts, ledger)
    assert len(missing) == 1
    ledger.append_all([(KIND, receipt) for receipt in missing], actor="north")
    assert not_in_ledger(receipts, ledger) == []
    assert ledger.verify() == 3
    wider = study_receipts(FILES, dataset="demo", kept="region")
    assert len(not_in_ledger(wider, ledger)) == 3
