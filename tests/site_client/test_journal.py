"""The journal gives back what was added, survives a kill, and forgets what it is told to."""

import errno
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shared.echo.manifest import DatasetManifest
from shared.errors import Code, EchoFedError
from site_client.journal import Journal, JournalEntry


@pytest.fixture
def entries(manifest: DatasetManifest) -> list[JournalEntry]:
    clip = replace(manifest.clips[0], label="")
    return [
        JournalEntry("one", clip, pixels="p", removed={"names": 2}, decision="keep"),
        JournalEntry("two", code="SECTOR_EMPTY", reason="nothing was found"),
    ]


@pytest.fixture
def journal(tmp_path: Path, entries: list[JournalEntry]) -> Journal:
    journal = Journal(tmp_path / "demo" / "journal.jsonl")
    for entry in entries:
        journal.add(entry)
    return journal


def test_entries_come_back_as_they_were(journal: Journal, entries: list[JournalEntry]) -> None:
    assert list(journal.entries().values()) == entries


def test_only_the_owner_reads_it(tmp_path: Path, journal: Journal) -> None:
    path = tmp_path / "demo" / "journal.jsonl"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    journal.keep({"two"})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_there_need_not_be_a_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "none.jsonl")
    journal.keep(())
    assert journal.entries() == {}
    assert list(tmp_path.iterdir()) == []


def test_the_newest_entry_of_a_file_counts(journal: Journal, entries: list[JournalEntry]) -> None:
    newer = replace(entries[0], decision="blank")
    journal.add(newer)
    assert journal.entries() == {"one": newer, "two": entries[1]}


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_an_entry_added_behind_a_torn_line_is_not_lost(
    tmp_path: Path, journal: Journal, entries: list[JournalEntry], cut: int
) -> None:
    path = tmp_path / "demo" / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    left = journal.entries()
    journal.add(entries[1])
    assert left.keys() == ({"one", "two"} if cut == 1 else {"one"})
    assert journal.entries() == {"one": entries[0], "two": entries[1]}


@pytest.mark.parametrize("line", [b"[]\n", b'{"mark": 3}\n', b"\xff\n", b"7\n", b"\n"])
def test_a_foreign_line_is_taken_out(
    tmp_path: Path, journal: Journal, entries: list[JournalEntry], line: bytes
) -> None:
    path = tmp_path / "demo" / "journal.jsonl"
    before = path.read_bytes()
    path.write_bytes(line + before)
    assert list(journal.entries().values()) == entries
    assert path.read_bytes() == before


def test_files_that_are_gone_are_taken_out(journal: Journal, entries: list[JournalEntry]) -> None:
    journal.keep({"two", "three"})
    assert journal.entries() == {"two": entries[1]}


def test_a_full_disk_is_told(
    journal: Journal, entries: list[JournalEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(EchoFedError) as caught:
        journal.add(entries[0])
    assert caught.value.code is Code.DISK_FULL
