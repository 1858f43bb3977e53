"""A finding of the doctor, and the premises that it looks at."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from shared.errors import Code
from site_client.archive.tls import TlsFiles
from site_client.store import SiteStore

State = Literal["ok", "warning", "fault"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found; ``mend`` says how to mend it, ``code`` numbers a fault."""

    state: State
    what: str
    mend: str = ""
    code: Code | None = None


@dataclass(frozen=True, slots=True)
class Premises:
    """A site to look at.

    Args:
        policy: the site's policy file.
        address: ``host:port`` of the centre, None at a standalone site.
        now: aware time.
        is_full: whether every clip is read and not a sample.
        receiver: files of the C-STORE receiver's TLS, None where it has none.
        site: site code; what another site made must be signed.
    """

    store: SiteStore
    policy: Path
    address: str | None
    now: datetime
    is_full: bool
    receiver: TlsFiles | None = None
    site: str = ""


Check = Callable[[Premises], Iterator[Finding]]
"""Looks and changes nothing; an EchoFedError that it raises is its last finding, a fault."""


def fine(what: str) -> Finding:
    """Nothing to do."""
    return Finding("ok", what)


def warn(what: str, mend: str) -> Finding:
    """Something that will hurt later, or may be meant."""
    return Finding("warning", what, mend)


def fault(code: Code, what: str, mend: str) -> Finding:
    """Something that keeps a command from working; ``code`` is what that command would end with."""
    return Finding("fault", what, mend, code)
