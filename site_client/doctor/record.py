"""Whether the ledger is there and its chain holds."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from shared.errors import Code, EchoFedError
from shared.ledger import Ledger, LedgerEntry
from site_client.doctor.finding import Finding, Premises, fault, fine

_MEND = "compare it with the copies kept elsewhere and restore it; do not append to it"


def check(premises: Premises) -> Iterator[Finding]:
    """Verify every entry."""
    path = premises.store.ledger_path
    if not path.is_file():
        yield fault(Code.LEDGER_BROKEN, "there is no ledger", _MEND)
        return
    try:
        count = Ledger(path).verify()
    except sqlite3.DatabaseError:
        yield fault(Code.LEDGER_BROKEN, "the ledger's file is damaged or not readable", _MEND)
        return
    yield fine(f"the ledger holds: {count} entries")


def sound_entries(path: Path) -> list[LedgerEntry]:
    """The entries of a ledger that holds, none of one that does not: other checks go on."""
    if not path.is_file():
        return []
    try:
        Ledger(path).verify()
        return list(Ledger(path).entries())
    except (sqlite3.DatabaseError, EchoFedError):
        return []
