"""Fetch an archive's instances into an inbox, going on where an earlier run ended."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shared.errors import Code, EchoFedError
from site_client.archive.dicomweb import DicomWeb, InstanceAddress
from site_client.archive.inbox import Inbox

Advance = Callable[[int, str], None]
_DATES = re.compile(r"\d{8}-(\d{8})?|-?\d{8}")


@dataclass(frozen=True, slots=True)
class FetchReport:
    """What a run found; counts only.

    Args:
        studies, instances: found in the archive.
        fetched, already: brought now; in the inbox from earlier.
        failed: studies and instances that the archive did not hand out.
        num_bytes: of what was brought now.
    """

    studies: int = 0
    instances: int = 0
    fetched: int = 0
    already: int = 0
    failed: int = 0
    num_bytes: int = 0


def expect_dates(text: str) -> str:
    """Return a range of study dates if it is one.

    Raises:
        EchoFedError: CONFIG_INVALID.
    """
    if text and not _DATES.fullmatch(text):
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"study date {text[:32]!r} is no range of dates",
            "write FROM-TO as YYYYMMDD-YYYYMMDD; one end may be left out",
        )
    return text


def fetch(
    archive: DicomWeb, inbox: Inbox, studies: Sequence[str], *, modality: str, advance: Advance
) -> FetchReport:
    """Bring every instance of the studies that is not in the inbox yet.

    Args:
        archive: is asked for instances.
        inbox: receives them.
        studies: UIDs.
        modality: of the series to bring.
        advance: called with (1, note) for each study.

    Raises:
        EchoFedError: ARCHIVE_UNREACHABLE, ARCHIVE_REFUSED or DISK_FULL; what was brought stays.
    """
    counts: Counter[str] = Counter()
    for study in studies:
        try:
            for address in archive.instances(study, modality=modality):
                counts["instances"] += 1
                counts += _bring(archive, inbox, address)
        except EchoFedError as error:
            if error.code is not Code.DATA_UNREADABLE:
                raise
            counts["failed"] += 1
        failed = f", {counts['failed']} failed" if counts["failed"] else ""
        advance(1, f"{counts['fetched']} fetched{failed}")
    return FetchReport(studies=len(studies), **counts)


def _bring(archive: DicomWeb, inbox: Inbox, address: InstanceAddress) -> Counter[str]:
    """Bring one instance, and count what became of it."""
    if inbox.has(address.instance):
        return Counter(already=1)
    try:
        data = archive.file(address)
    except EchoFedError as error:
        if error.code is not Code.DATA_UNREADABLE:
            raise
        return Counter(failed=1)
    inbox.put(address.instance, data)
    return Counter(fetched=1, num_bytes=len(data))
