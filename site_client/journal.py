"""What became of each file of a dataset, so that none that is done is read again.

A line is added as soon as a file is done: after a kill the next ingest goes on behind it. Files are
told by a keyed hash of name, size and time of change. Pixels that lie beside a header (MetaImage)
are not looked at: touch the header where they were changed.
"""

import json
import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.echo.manifest import ClipRecord
from shared.echo.schema import from_document, to_document
from shared.errors import EchoFedError
from shared.files import append_bytes, write_bytes

READING = 1
"""Raised by a release that would store the same file otherwise: then every file is read again."""
_VERSION = 0  # lines carry none: the file of a line that does not fit is read again

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """What became of one file.

    Args:
        mark: keyed hash of the file's name, size and time of change, and of how it was read.
        record: its clip, of the patient that the file names, without label and split; None where
            the file was left out.
        pixels: keyed hash of the stored pixels, the same for every file that shows them.
        removed: header elements removed, by kind.
        study: pseudonym of its study, or of its patient where the source knows no studies; empty
            where no header could be read.
        decision: of a person who looked at the clip before.
        code: why the file was left out, and ``reason`` in words.
    """

    mark: str
    record: ClipRecord | None = None
    pixels: str = ""
    removed: Mapping[str, int] = field(default_factory=dict)
    study: str = ""
    decision: str = ""
    code: str = ""
    reason: str = ""


class Journal:
    """The lines of one dataset."""

    def __init__(self, path: Path) -> None:
        """Name the file; it need not exist."""
        self._path = path

    def entries(self) -> dict[str, JournalEntry]:
        """The newest entry of each mark; a line that a kill cut off is taken out of the file."""
        if not self._path.is_file():
            return {}
        data = self._path.read_bytes()
        read = [_entry(line) for line in data.splitlines()]
        whole = {entry.mark: entry for entry in read if entry is not None}
        if None in read or not data.endswith(b"\n"):
            log.info("%d lines of a journal are cut off or foreign", read.count(None))
            self.rewrite(whole.values())
        return whole

    def add(self, entry: JournalEntry) -> None:
        """Add a line.

        Raises:
            EchoFedError: DISK_FULL.
        """
        append_bytes(self._path, _line(entry))

    def keep(self, marks: Collection[str]) -> None:
        """Take out what is of files that are not there any more, or not as they were."""
        entries = self.entries()
        if entries.keys() - set(marks):
            self.rewrite(entry for mark, entry in entries.items() if mark in marks)

    def rewrite(self, entries: Iterable[JournalEntry]) -> None:
        """Keep these entries and no other."""
        write_bytes(self._path, b"".join(_line(entry) for entry in entries))


def _line(entry: JournalEntry) -> bytes:
    document = to_document(entry)
    return json.dumps({k: v for k, v in document.items() if v}, sort_keys=True).encode() + b"\n"


def _entry(line: bytes) -> JournalEntry | None:
    try:
        document: Any = json.loads(line)
        return from_document(JournalEntry, document, version=_VERSION)
    except (ValueError, AttributeError, EchoFedError):
        return None
