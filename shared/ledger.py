"""The ledger: an append-only hash chain of what left, arrived, was refused or promoted.

Entries are stored as RFC 8785 bytes and hashed as RFC 9162 leaves (SHA-256 of 0x00 and the
bytes), so that Merkle proofs can be added without rewriting an entry. Floats are refused.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import rfc8785

from shared.errors import Code, EchoFedError

LEDGER_VERSION = 1
EMPTY_HEAD = hashlib.sha256(b"").hexdigest()
"""Hash of an empty tree (RFC 9162, 2.1.1); the first entry's predecessor."""
_LEAF_PREFIX = b"\x00"  # RFC 9162, 2.1.1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (version INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS entries (
    position INTEGER PRIMARY KEY, body BLOB NOT NULL, leaf TEXT NOT NULL
);
"""


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One event: position, time (UTC), kind, actor, body and the hash of the entry before it."""

    position: int
    time: str
    kind: str
    actor: str
    body: dict[str, Any]
    previous: str
    leaf: str


class Ledger:
    """A hash chain in an SQLite file; safe for several processes on one machine."""

    def __init__(self, path: Path) -> None:
        """Open or create the file.

        Raises:
            EchoFedError: STATE_NEWER for a ledger of a later version.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        with closing(self._connect()) as connection, connection:
            connection.executescript(_SCHEMA)
            row = connection.execute("SELECT version FROM meta").fetchone()
            if row is None:
                connection.execute("INSERT INTO meta VALUES (?)", (LEDGER_VERSION,))
            elif row[0] > LEDGER_VERSION:
                raise EchoFedError(
                    Code.STATE_NEWER,
                    f"ledger of version {row[0]} is newer than this release",
                    "upgrade echofed",
                )

    def append(self, kind: str, body: Mapping[str, Any], *, actor: str) -> LedgerEntry:
        """Add an entry.

        Args:
            kind: what happened, such as ``export.sent`` or ``export.refused``.
            body: text, integers, booleans, None, lists and mappings of these; nothing identifying.
            actor: site code or operator.

        Raises:
            EchoFedError: CONFIG_INVALID for a float, DISK_FULL where the file cannot grow.
        """
        return self.append_all([(kind, body)], actor=actor)[0]

    def append_all(
        self, events: Sequence[tuple[str, Mapping[str, Any]]], *, actor: str
    ) -> list[LedgerEntry]:
        """Add entries of kind and body, all of them or none.

        Raises:
            EchoFedError: as ``append``.
        """
        for kind, body in events:
            _refuse_floats(body, kind)
        added = []
        try:
            with closing(self._connect()) as connection, connection:
                connection.execute("BEGIN IMMEDIATE")
                last = connection.execute(
                    "SELECT position, leaf FROM entries ORDER BY position DESC LIMIT 1"
                ).fetchone()
                first, previous = (last[0] + 1, last[1]) if last else (0, EMPTY_HEAD)
                for position, (kind, body) in enumerate(events, start=first):
                    data = rfc8785.dumps(
                        {
                            "actor": actor,
                            "body": dict(body),
                            "kind": kind,
                            "position": position,
                            "previous": previous,
                            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                        }
                    )
                    previous = leaf_hash(data)
                    row = (position, data, previous)
                    connection.execute("INSERT INTO entries VALUES (?, ?, ?)", row)
                    added.append(_entry(*row))
        except sqlite3.OperationalError as error:
            if "full" in str(error):
                raise EchoFedError(
                    Code.DISK_FULL, "no space left for the ledger", "free some space"
                ) from error
            raise
        return added

    def entries(self) -> Iterator[LedgerEntry]:
        """All entries from the first on."""
        with closing(self._connect()) as connection:
            rows = connection.execute(
                "SELECT position, body, leaf FROM entries ORDER BY position"
            ).fetchall()
        for position, data, leaf in rows:
            yield _entry(position, data, leaf)

    def head(self) -> str:
        """Hash of the last entry."""
        with closing(self._connect()) as connection:
            row = connection.execute(
                "SELECT leaf FROM entries ORDER BY position DESC LIMIT 1"
            ).fetchone()
        return str(row[0]) if row else EMPTY_HEAD

    def verify(self) -> int:
        """Check every entry's bytes, hash, position and predecessor and return how many there are.

        Raises:
            EchoFedError: LEDGER_BROKEN naming the first position that does not hold.
        """
        with closing(self._connect()) as connection:
            rows = connection.execute(
                "SELECT position, body, leaf FROM entries ORDER BY position"
            ).fetchall()
        previous = EMPTY_HEAD
        for expected, (position, data, leaf) in enumerate(rows):
            is_whole = (
                position == expected
                and isinstance(data, bytes)
                and leaf == leaf_hash(data)
                and _is_chained(data, position, previous)
            )
            if not is_whole:
                raise EchoFedError(
                    Code.LEDGER_BROKEN,
                    f"the ledger does not hold at position {expected}",
                    "compare it with the copies kept elsewhere; do not append to it",
                )
            previous = leaf
        return len(rows)

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=30.0, isolation_level=None)


def leaf_hash(data: bytes) -> str:
    """RFC 9162 leaf hash in hex."""
    return hashlib.sha256(_LEAF_PREFIX + data).hexdigest()


def _entry(position: int, data: bytes, leaf: str) -> LedgerEntry:
    document = json.loads(data)
    return LedgerEntry(
        position,
        document["time"],
        document["kind"],
        document["actor"],
        document["body"],
        document["previous"],
        leaf,
    )


def _is_chained(data: bytes, position: int, previous: str) -> bool:
    try:
        document = json.loads(data)
    except ValueError:
        return False
    is_canonical = bytes(rfc8785.dumps(document)) == data
    return (
        is_canonical
        and document.get("previous") == previous
        and document.get("position") == position
    )


def _refuse_floats(value: Any, kind: str) -> None:
    if isinstance(value, float):
        raise EchoFedError(
            Code.CONFIG_INVALID, f"ledger entry {kind!r} holds a float", "write text or integers"
        )
    if isinstance(value, Mapping):
        for part in value.values():
            _refuse_floats(part, kind)
    elif isinstance(value, list | tuple):
        for part in value:
            _refuse_floats(part, kind)
