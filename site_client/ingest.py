"""Ingest: a folder of files becomes a de-identified dataset; what was dropped is listed with why.

Clips and the journal of their files are written first, the manifest last: until it stands, the
dataset does not exist, and running again goes on behind the last file that was done.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from shared.echo.manifest import ClipRecord, DatasetManifest
from shared.echo.origin import Origin
from shared.errors import Code, EchoFedError
from shared.ledger import Ledger
from site_client.datasets import SOURCES
from site_client.datasets.beside import Beside
from site_client.datasets.label_map import provenance, require_signed
from site_client.datasets.labels import LabelRow
from site_client.datasets.layouts import LAYOUTS
from site_client.datasets.listing import Listing, choose_files, list_labelled, with_masks
from site_client.datasets.raw import RawHeader, identity_of
from site_client.deidentify import Pseudonyms, deidentify, require_allowed, require_looked_at
from site_client.ingested import Dropped, IngestReport, nothing_ingested
from site_client.journal import READING, Journal, JournalEntry
from site_client.origins import expect_same_origin, expect_told
from site_client.quarantine import Candidate, admit, decision_about
from site_client.receipts import note_ingest, treated_files
from site_client.records import ReadFile, Told, build_records
from site_client.settings import IngestSettings
from site_client.store import SiteStore, require_name

Advance = Callable[[int, str], None]
Show = Callable[[int], AbstractContextManager[Advance]]
"""Opens the progress of so many files."""
_OF_A_FILE = {
    Code.DATA_UNREADABLE,
    Code.PIXELS_MISSING,
    Code.FRAMES_MISSING,
    Code.SECTOR_EMPTY,
    Code.MODE_UNWANTED,
    Code.TEXT_FOUND,
    Code.LABEL_UNMAPPED,
    Code.LABEL_MAP_INVALID,
    Code.ORIGIN_UNFIT,
}
"""Faults of one file, which is dropped; any other fault ends the run."""
_LASTING = {Code.SECTOR_EMPTY.name}
"""Faults that reading the same file again would not mend."""


_NOTHING = Beside()
_GONE = Dropped(
    -1, "", Code.DATA_UNREADABLE.name, "a file named in the labels is not in the folder"
)


@dataclass(frozen=True, slots=True)
class IngestRequest:
    """What shall become a dataset.

    Args:
        dataset: its name at this site.
        origin: ``synthetic`` takes only files that say so themselves, the others take none of them.
        labels: CSV with file,label[,split][,patient]; None leaves every clip without a label.
        label_map: YAML label -> view(s); None reads the labels as view names.
        source: kind of the files, DICOM where neither it nor a layout is given.
        layout: name of a public set, which brings labels, label map, source, licence and masks.
        masks: folder of label maps, one file for a picture.
        structures: what their values mean, background first; empty where the files say it.
    """

    dataset: str
    site: str
    origin: Origin
    labels: Path | None = None
    label_map: Path | None = None
    source: str | None = None
    purpose: str = ""
    licence: str = ""
    layout: str | None = None
    masks: Path | None = None
    structures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Task:
    """A file to read.

    Args:
        mark: keyed hash of the file as it is now and of how it shall be read.
        known: what became of it earlier.
        patient: pseudonym of the patient that the labels name, empty where they name none.
        beside: what lies beside it.
        is_synthetic: whether it must say that it is, or must not.
    """

    position: int
    path: Path
    mark: str
    known: JournalEntry | None
    patient: str
    beside: Beside
    is_synthetic: bool


@dataclass(frozen=True, slots=True)
class _Plan:
    """What shall be read, and what the labels say of it by position."""

    tasks: list[_Task]
    rows: dict[int, LabelRow]
    patients: dict[int, str]
    num_ignored: int
    num_lost: int


@dataclass(frozen=True, slots=True)
class _Failed:
    """An error as a value, because it must cross from a worker."""

    code: Code
    message: str
    hint: str


def ingest(
    folder: Path,
    store: SiteStore,
    request: IngestRequest,
    settings: IngestSettings,
    *,
    now: datetime,
    show: Show | None = None,
) -> IngestReport:
    """Read every file of a folder, de-identify it, store it and write the manifest.

    Args:
        folder: searched to the bottom.
        store: the site's folder.
        request: what shall become of the files.
        settings: how.
        now: aware time, for the manifest.
        show: given the number of files, opens what is advanced by (1, note) for each.

    Raises:
        EchoFedError: LABEL_UNMAPPED and other faults of the labels before anything is stored, and
            ORIGIN_UNFIT for a dataset that is synthetic and shall not be, or the other way round;
            PATIENT_IN_TWO_SPLITS, NOTHING_INGESTED and DISK_FULL without a manifest being written.
    """
    require_name(request.dataset)
    require_allowed(settings.keep_pixels, request.origin)
    require_looked_at(settings.text, request.origin)
    expect_same_origin(store, request.dataset, request.origin)
    if not folder.is_dir():
        raise EchoFedError(
            Code.CONFIG_MISSING, "the folder to ingest does not exist", "check FOLDER"
        )
    listing = _list(folder, request)
    require_signed(listing.site_map, request.origin, accept_unsigned=settings.accept_unsigned_map)
    pseudonyms = Pseudonyms(store.key())
    journal = store.journal(request.dataset)
    known = journal.entries()
    is_drawn = request.origin == "synthetic"
    plan = _plan(folder, listing, pseudonyms, settings, known, is_synthetic=is_drawn)
    job = partial(
        _read_one, store=store, dataset=request.dataset, source=listing.source,
        pseudonyms=pseudonyms, settings=settings,
    )  # fmt: skip
    with (show or _unseen)(len(plan.tasks)) as advance:
        results = _noted(_run(job, plan.tasks, settings.workers), journal, known)
        reads, left = _collect(results, advance)
    told = Told(plan.rows, plan.patients, _earlier(store, request.dataset))
    is_without_test = is_drawn or listing.has_published_test()
    clips, copies = build_records(
        reads, told, val_fraction=settings.val_fraction,
        test_fraction=0.0 if is_without_test else settings.test_fraction,
    )  # fmt: skip
    dropped = [read.drop(read.entry.code, read.entry.reason) for read in left]
    dropped += [*copies, *[_GONE] * plan.num_lost]
    if not clips:
        raise nothing_ingested(dropped)
    manifest = DatasetManifest(
        id=request.dataset, site=request.site, origin=request.origin, source=listing.source,
        labels=dict(listing.views), clips=clips, kept_pixels=settings.keep_pixels,
        licence=listing.licence, purpose=request.purpose, created=now.isoformat(timespec="seconds"),
        **{"annotated": listing.annotated} | provenance(listing.site_map),
    )  # fmt: skip
    changed = _is_new(store, manifest)
    report = IngestReport(
        manifest, tuple(dropped), len(plan.tasks), plan.num_ignored,
        num_known=sum(read.is_known for read in reads),
        removed=_removed(reads, clips), changed=changed,
    )  # fmt: skip
    note_ingest(Ledger(store.ledger_path), report, treated_files(reads, left, clips))
    if changed:
        store.save_manifest(manifest)
    store.remove_stray_clips(manifest)
    journal.keep({task.mark for task in plan.tasks})
    return report


def _list(folder: Path, request: IngestRequest) -> Listing:
    """Understand the folder, by a public layout or by the site's own labels."""
    if request.structures and request.masks is None:
        raise EchoFedError(
            Code.CONFIG_INVALID, "structures are named, but no masks", "add --masks FOLDER"
        )
    if request.layout is None:
        listing = list_labelled(
            folder, request.source or "dicom", labels=request.labels,
            label_map=request.label_map, licence=request.licence,
        )  # fmt: skip
        if request.masks is None:
            return listing
        return with_masks(listing, folder, request.masks, request.structures)
    brought = (
        request.labels, request.label_map, request.source, request.licence, request.masks,
    )  # fmt: skip
    if any(brought):
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"the layout {request.layout} brings labels, label map, source, licence and masks",
            "leave these options out, or leave out --layout",
        )
    return LAYOUTS[request.layout](folder)


def _plan(
    folder: Path,
    listing: Listing,
    pseudonyms: Pseudonyms,
    settings: IngestSettings,
    known: Mapping[str, JournalEntry],
    *,
    is_synthetic: bool,
) -> _Plan:
    """Files in order, each with what the labels and the journal say of it."""
    files, num_ignored, num_lost = choose_files(folder, listing)
    unsaid = LabelRow("", None)
    names = [path.relative_to(folder).as_posix() for path in files]
    rows = {place: listing.rows.get(name, unsaid) for place, name in enumerate(names)}
    patients = {
        place: pseudonyms.patient(identity_of(row.patient, listing.issuer))
        for place, row in rows.items()
        if row.patient is not None
    }
    modes = ",".join(sorted(settings.modes))
    how = f"{READING} {listing.source} {settings.keep_pixels} {settings.text} {modes}"
    how += " synthetic" * is_synthetic
    tasks = []
    for place, (path, name) in enumerate(zip(files, names, strict=True)):
        patient, beside = patients.get(place, ""), listing.beside.get(name, _NOTHING)
        mark = _mark(path, name, f"{how} {patient}", beside, pseudonyms)
        task = _Task(place, path, mark, known.get(mark), patient, beside, is_synthetic)
        tasks.append(task)
    return _Plan(tasks, rows, patients, num_ignored, num_lost)


def _mark(path: Path, name: str, how: str, beside: Beside, pseudonyms: Pseudonyms) -> str:
    """Empty for a file that went since the folder was listed; reading it tells."""
    try:
        return pseudonyms.file(path.stat(), name, how + beside.mark())
    except OSError:
        return ""


def _run(
    job: Callable[[_Task], ReadFile | _Failed], tasks: Sequence[_Task], workers: int
) -> Iterator[ReadFile | _Failed]:
    """Results in the order of the tasks, from this process or from several."""
    if workers == 1 or len(tasks) < 2 * workers:
        yield from map(job, tasks)
        return
    try:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            yield from pool.map(job, tasks, chunksize=4)
    except BrokenProcessPool as error:
        raise EchoFedError(
            Code.RUN_FAILED,
            "a process that reads files was killed",
            "it may have been out of memory: lower ingest.workers and run again; nothing was lost",
        ) from error


def _read_one(
    task: _Task,
    *,
    store: SiteStore,
    dataset: str,
    source: str,
    pseudonyms: Pseudonyms,
    settings: IngestSettings,
) -> ReadFile | _Failed:
    """Read, de-identify and store one file; a fault of the file is a result, not an exception."""
    if task.known is not None and _still_holds(task.known, store, dataset):
        return ReadFile(task.position, task.known, is_known=True)
    sha256, entry = "", JournalEntry(task.mark)
    try:
        reader = SOURCES[source]
        data = reader.read(task.path)
        sha256 = hashlib.sha256(data).hexdigest()[:12]
        opened = reader.open(data)
        header = opened.header()
        expect_told(header, is_synthetic=task.is_synthetic)
        patient = pseudonyms.patient(header.patient)
        study = pseudonyms.study(header.study) if header.study else ""
        entry = replace(entry, removed=dict(header.removed), study=study or task.patient or patient)
        key = pseudonyms.clip(data, settings.keep_pixels)
        candidate = Candidate(
            key, task.patient or patient, dataset,
            lambda: deidentify(
                task.beside.complete(opened.clip()), settings.keep_pixels, settings.modes
            ),
            shows_more=settings.keep_pixels == "region",
        )  # fmt: skip
        clip = admit(store, candidate, settings.text)
        file, digest = store.add_clip(dataset, clip)
    except EchoFedError as error:
        if error.code not in _OF_A_FILE:
            return _Failed(error.code, error.message, error.hint)
        left_out = replace(entry, code=error.code.name, reason=error.message)
        return ReadFile(task.position, left_out, sha256)
    record = ClipRecord(
        key, patient, "", "train", len(clip.pixels_THW), file, digest, clip.mask_HW is not None,
        study=study, date=_date(header, task.patient or patient, pseudonyms),
        num_blanked=clip.num_blanked, text=clip.text,
        structures=clip.annotation.structures if clip.annotation else (),
    )  # fmt: skip
    pixels, decision = pseudonyms.pixels(clip.pixels_THW), decision_about(store, key)
    done = replace(entry, record=record, pixels=pixels, decision=decision)
    return ReadFile(task.position, done, sha256)


def _date(header: RawHeader, patient: str, pseudonyms: Pseudonyms) -> str:
    moved = pseudonyms.moved(header.day, patient) if header.day else None
    return moved.isoformat() if moved else ""


def _still_holds(entry: JournalEntry, store: SiteStore, dataset: str) -> bool:
    """Whether a file need not be read again: its clip is whole and nobody decided otherwise."""
    if entry.record is None:
        return True
    return decision_about(store, entry.record.key) == entry.decision and store.holds(
        dataset, entry.record
    )


def _noted(
    results: Iterator[ReadFile | _Failed], journal: Journal, known: Mapping[str, JournalEntry]
) -> Iterator[ReadFile]:
    """The results, each of them in the journal from now on.

    Raises:
        EchoFedError: what ended a worker.
    """
    for result in results:
        if isinstance(result, _Failed):
            raise EchoFedError(result.code, result.message, result.hint)
        entry = result.entry
        is_done = entry.record is not None or entry.code in _LASTING
        if is_done and entry.mark and known.get(entry.mark) != entry:
            journal.add(entry)
        yield result


def _collect(
    results: Iterator[ReadFile], advance: Advance
) -> tuple[list[ReadFile], list[ReadFile]]:
    """Files that became clips, and files that were left out."""
    reads: list[ReadFile] = []
    left: list[ReadFile] = []
    for read in results:
        (left if read.entry.record is None else reads).append(read)
        advance(1, f"{len(left)} dropped" if left else "")
    return reads, left


def _earlier(store: SiteStore, dataset: str) -> tuple[ClipRecord, ...]:
    return store.manifest(dataset).clips if dataset in store.datasets() else ()


def _removed(reads: Sequence[ReadFile], clips: Sequence[ClipRecord]) -> dict[str, int]:
    """Header elements removed from the files of these clips, by kind."""
    by_key = {read.record.key: read.entry.removed for read in reads}
    total = Counter[str]()
    for clip in clips:
        total.update(by_key[clip.key])
    return dict(sorted(total.items()))


def _is_new(store: SiteStore, manifest: DatasetManifest) -> bool:
    if manifest.id not in store.datasets():
        return True
    return replace(store.manifest(manifest.id), created=manifest.created) != manifest


def _unseen(num_files: int) -> AbstractContextManager[Advance]:
    """No progress is shown."""
    return nullcontext(lambda units, note: None)
