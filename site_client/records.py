"""From files to a dataset's records: one for each clip, with patient, label and split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from shared.echo.manifest import ClipRecord, Split, require_patients_apart
from shared.errors import Code
from site_client.datasets.labels import LabelRow
from site_client.datasets.splits import draw_splits
from site_client.ingested import Dropped
from site_client.journal import JournalEntry


@dataclass(frozen=True, slots=True)
class ReadFile:
    """A file of a folder and what became of it.

    Args:
        position: place in the sorted listing.
        sha256: start of the file's SHA-256, empty where it was not read again.
        is_known: whether it was not.
    """

    position: int
    entry: JournalEntry
    sha256: str = ""
    is_known: bool = False

    @property
    def record(self) -> ClipRecord:
        """The clip of a file that was not left out."""
        assert self.entry.record is not None
        return self.entry.record

    def drop(self, code: str, reason: str) -> Dropped:
        """The file as one that is left out."""
        return Dropped(self.position, self.sha256, code, reason)


@dataclass(frozen=True, slots=True)
class Told:
    """What is known of the files from elsewhere.

    Args:
        rows: what the labels say, by position.
        patients: pseudonyms of the patients that the labels name, by position.
        earlier: records of the dataset before.
    """

    rows: Mapping[int, LabelRow]
    patients: Mapping[int, str]
    earlier: Sequence[ClipRecord]


def build_records(
    reads: Sequence[ReadFile], told: Told, *, val_fraction: float, test_fraction: float
) -> tuple[tuple[ClipRecord, ...], list[Dropped]]:
    """Records in the order of their keys, and the files that show what another shows.

    Args:
        reads: files that became clips.
        told: labels, splits and patients, and what the dataset held before.
        val_fraction: share of the patients for validation, where no split is told.
        test_fraction: share of the patients for testing.

    Raises:
        EchoFedError: PATIENT_IN_TWO_SPLITS.
    """
    records = {read.position: _labelled(read, told) for read in reads}
    firsts = _first_of_each(reads, {record.key for record in told.earlier})
    chosen, copies = [], []
    for read in reads:
        own, first = records[read.position], firsts[read.entry.pixels]
        if first is read:
            chosen.append(own)
        else:
            copies.append(_copy(read, own, records[first.position]))
    fixed = _fixed(records, told)
    splits = draw_splits(
        (record.patient for record in chosen),
        fixed,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
    )
    done = (replace(record, split=splits[record.patient]) for record in chosen)
    return tuple(sorted(done, key=lambda record: record.key)), copies


def _labelled(read: ReadFile, told: Told) -> ClipRecord:
    patient = told.patients.get(read.position) or read.record.patient
    return replace(read.record, patient=patient, label=told.rows[read.position].label)


def _first_of_each(reads: Sequence[ReadFile], earlier: set[str]) -> dict[str, ReadFile]:
    """By pixels the file that counts: one that the dataset had already, else the first."""
    firsts: dict[str, ReadFile] = {}
    for read in sorted(reads, key=lambda read: (read.record.key not in earlier, read.position)):
        firsts.setdefault(read.entry.pixels, read)
    return firsts


def _copy(read: ReadFile, own: ClipRecord, first: ClipRecord) -> Dropped:
    reason = "a file shows the same pixels as another"
    if own.patient != first.patient:
        reason += ", which is of another patient"
    elif own.label != first.label:
        reason += ", which has another label"
    return read.drop(Code.ALREADY_EXISTS.name, reason)


def _fixed(records: Mapping[int, ClipRecord], told: Told) -> dict[str, Split]:
    """Splits that may not change: those of before, and over them those of the labels."""
    given = [
        replace(record, split=split)
        for place, record in records.items()
        if (split := told.rows[place].split) is not None
    ]
    require_patients_apart(given)
    return {record.patient: record.split for record in (*told.earlier, *given)}
