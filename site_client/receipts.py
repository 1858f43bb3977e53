"""Receipts: what de-identification did to each study, in numbers, for the ledger.

A receipt names neither patient nor study: whoever has the stored clips can tell by their hash that
it is theirs, and once they are forgotten nobody can.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.echo.manifest import ClipRecord
from shared.errors import Code
from shared.files import sha256_hex
from shared.ledger import Ledger
from site_client.deidentify import PROFILE_VERSION, KeptPixels, method_codes
from site_client.ingested import IngestReport
from site_client.records import ReadFile

KIND = "study.deidentified"


@dataclass(frozen=True, slots=True)
class Treated:
    """A file whose header was read, and what became of it.

    Args:
        study: pseudonym of its study, or of its patient where the source knows no studies.
        record: the stored clip, None where the file was left out.
        removed: header elements removed, by kind.
        code: why the file was left out, empty where it was not.
    """

    study: str
    record: ClipRecord | None
    removed: Mapping[str, int]
    code: str = ""


def treated_files(
    reads: Sequence[ReadFile], left: Sequence[ReadFile], clips: Sequence[ClipRecord]
) -> Iterator[Treated]:
    """Every file whose header was read.

    Args:
        reads: files that became clips; of several that show the same one counts.
        left: files that were left out.
        clips: the dataset's records.
    """
    waiting = {clip.key: clip for clip in clips}
    for read in reads:
        record = waiting.pop(read.record.key, None)
        code = "" if record else Code.ALREADY_EXISTS.name
        yield Treated(read.entry.study, record, read.entry.removed, code)
    for read in left:
        if read.entry.study:
            yield Treated(read.entry.study, None, read.entry.removed, read.entry.code)


def note_ingest(ledger: Ledger, report: IngestReport, files: Iterable[Treated]) -> None:
    """Write the receipts that are new and, where it changed, the dataset: all of it or nothing."""
    manifest = report.manifest
    receipts = study_receipts(files, dataset=manifest.id, kept=manifest.kept_pixels)
    events = [(KIND, receipt) for receipt in not_in_ledger(receipts, ledger)]
    if report.changed:
        events.append(("dataset.ingested", report.document()))
    ledger.append_all(events, actor=manifest.site)


def study_receipts(
    files: Iterable[Treated], *, dataset: str, kept: KeptPixels
) -> list[dict[str, Any]]:
    """One receipt for every study, in an order that tells nothing of the patients."""
    studies: defaultdict[str, list[Treated]] = defaultdict(list)
    for file in files:
        studies[file.study].append(file)
    method = {"profile": PROFILE_VERSION, "method_codes": list(method_codes(kept))}
    receipts = [{"dataset": dataset, **method, **_count(study)} for study in studies.values()]
    return sorted(receipts, key=_text)


def not_in_ledger(receipts: Sequence[Mapping[str, Any]], ledger: Ledger) -> list[dict[str, Any]]:
    """The receipts that the ledger does not hold yet, each as often as it is missing."""
    held = Counter(_text(entry.body) for entry in ledger.entries() if entry.kind == KIND)
    missing = Counter(map(_text, receipts)) - held
    return [json.loads(text) for text in sorted(missing.elements())]


def _count(files: Sequence[Treated]) -> dict[str, Any]:
    records = [file.record for file in files if file.record is not None]
    removed = sum((Counter(dict(file.removed)) for file in files), Counter[str]())
    dropped = Counter(file.code for file in files if file.code)
    hashes = sorted(record.sha256 for record in records)
    return {
        "files": len(files),
        "clips": len(records),
        "frames": sum(record.num_frames for record in records),
        "header_elements_removed": dict(sorted(removed.items())),
        "pixels_blanked": _total([record.num_blanked for record in records]),
        "text": dict(sorted(Counter(record.text for record in records).items())),
        "dropped": dict(sorted(dropped.items())),
        "content_sha256": sha256_hex("\n".join(hashes).encode()) if hashes else "",
    }


def _total(numbers: Sequence[int | None]) -> int | None:
    """The sum, None where a clip of an earlier release was not counted."""
    known = [number for number in numbers if number is not None]
    return sum(known) if len(known) == len(numbers) else None


def _text(body: Mapping[str, Any]) -> str:
    return json.dumps(body, sort_keys=True)
