"""Laws of the ledger: verify sees whatever is edited, dropped or reordered."""

import hashlib
import sqlite3
from itertools import pairwise
from pathlib import Path

import pytest

from shared.errors import Code, EchoFedError
from shared.ledger import EMPTY_HEAD, Ledger


def filled(tmp_path: Path) -> Ledger:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    for number in range(5):
        ledger.append("export.sent", {"bytes": number, "dataset": "demo"}, actor="north")
    return ledger


def alter(tmp_path: Path, statement: str) -> None:
    connection = sqlite3.connect(tmp_path / "ledger.sqlite")
    connection.execute(statement)
    connection.commit()
    connection.close()


def test_entries_chain_from_the_empty_head(tmp_path: Path) -> None:
    ledger = filled(tmp_path)
    entries = list(ledger.entries())
    assert entries[0].previous == EMPTY_HEAD
    assert all(after.previous == before.leaf for before, after in pairwise(entries))
    assert ledger.head() == entries[-1].leaf
    assert ledger.verify() == 5


def test_several_entries_come_whole_or_not_at_all(tmp_path: Path) -> None:
    ledger = filled(tmp_path)
    added = ledger.append_all([("a", {"n": 1}), ("b", {"n": 2})], actor="north")
    assert [entry.position for entry in added] == [5, 6]
    assert list(ledger.entries())[5:] == added
    with pytest.raises(EchoFedError):
        ledger.append_all([("a", {"n": 3}), ("b", {"n": 0.5})], actor="north")
    assert ledger.append_all([], actor="north") == []
    assert ledger.verify() == 7


def test_stored_bytes_are_canonical_and_hashed_as_rfc_9162_leaves(tmp_path: Path) -> None:
    filled(tmp_path)
    connection = sqlite3.connect(tmp_path / "ledger.sqlite")
    data, leaf = connection.execute("SELECT body, leaf FROM entries WHERE position = 0").fetchone()
    connection.close()
    assert hashlib.sha256(b"\x00" + data).hexdigest() == leaf
    assert data.startswith(
        b'{"actor":"north","body":{"bytes":0,"dataset":"demo"},"kind":"export.sent"'
    )


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET body = CAST(replace(body, 'demo', 'else') AS BLOB) WHERE position = 2",
        "DELETE FROM entries WHERE position = 2",
        "DELETE FROM entries WHERE position = 0",
        "UPDATE entries SET position = 9 WHERE position = 4",
        "UPDATE entries SET body = replace(body, 'demo', 'else') WHERE position = 2",
        "UPDATE entries SET leaf = (SELECT max(leaf) FROM entries) || 'a' WHERE position = 3",
    ],
)
def test_any_edit_breaks_the_chain(tmp_path: Path, statement: str) -> None:
    ledger = filled(tmp_path)
    alter(tmp_path, statement)
    with pytest.raises(EchoFedError) as caught:
        ledger.verify()
    assert caught.value.code is Code.LEDGER_BROKEN


def test_floats_are_refused_wherever_they_hide(tmp_path: Path) -> None:
    with pytest.raises(EchoFedError, match="float"):
        Ledger(tmp_path / "ledger.sqlite").append("x", {"list": [{"deep": 0.5}]}, actor="north")


def test_a_newer_ledger_is_refused(tmp_path: Path) -> None:
    filled(tmp_path)
    alter(tmp_path, "UPDATE meta SET version = 99")
    with pytest.raises(EchoFedError) as caught:
        Ledger(tmp_path / "ledger.sqlite")
    assert caught.value.code is Code.STATE_NEWER
