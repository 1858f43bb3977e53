"""Ingest: a folder of files becomes a de-identified dataset; what was dropped is listed with why.

Clips are written first, the manifest last: until it stands, the dataset does not exist, and running
again goes on from the clips that are there.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

from shared.echo.manifest import ClipRecord, DatasetManifest, Split, require_patients_apart
from shared.errors import Code, EchoFedError
from shared.ledger import Ledger
from site_client.datasets import SOURCES
from site_client.datasets.labels import LabelRow
from site_client.datasets.layouts import LAYOUTS
from site_client.datasets.listing import Listing, choose_files, list_labelled
from site_client.datasets.raw import identity_of
from site_client.datasets.splits import draw_splits
from site_client.deidentify import (
    Pseudonyms,
    deidentify,
    require_allowed,
    require_wanted,
)
from site_client.ingested import Dropped, IngestReport
from site_client.settings import IngestSettings
from site_client.store import SiteStore, StoredClip, file_sha256, load_clip, require_name

Advance = Callable[[int, str], None]
_OF_A_FILE = {
    Code.DATA_UNREADABLE, Code.PIXELS_MISSING, Code.FRAMES_MISSING, Code.SECTOR_EMPTY,
    Code.MODE_UNWANTED,
}  # fmt: skip
"""Faults of one file, which is dropped; any other fault ends the run."""


@dataclass(frozen=True, slots=True)
class IngestRequest:
    """What shall become a dataset.

    Args:
        dataset: its name at this site.
        labels: CSV with file,label[,split][,patient]; None leaves every clip without a label.
        label_map: YAML label -> view(s); None reads the labels as view names.
        source: kind of the files, DICOM where neither it nor a layout is given.
        layout: name of a public set, which brings labels, label map, source and licence itself.
    """

    dataset: str
    site: str
    origin: Literal["phantom", "real"]
    labels: Path | None = None
    label_map: Path | None = None
    source: str | None = None
    purpose: str = ""
    licence: str = ""
    layout: str | None = None


@dataclass(frozen=True, slots=True)
class _Task:
    position: int
    path: Path


@dataclass(frozen=True, slots=True)
class _Read:
    position: int
    record: ClipRecord
    removed: Mapping[str, int] = field(default_factory=dict)


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
    advance: Advance | None = None,
) -> IngestReport:
    """Read every file of a folder, de-identify it, store it and write the manifest.

    Args:
        folder: searched to the bottom.
        store: the site's folder.
        request: what shall become of the files.
        settings: how.
        now: aware time, for the manifest.
        advance: called with (1, note) for each file.

    Raises:
        EchoFedError: LABEL_UNMAPPED and other faults of the labels before anything is stored;
            PATIENT_IN_TWO_SPLITS, NOTHING_INGESTED and DISK_FULL without a manifest being written.
    """
    require_name(request.dataset)
    require_allowed(settings.keep_pixels, request.origin)
    if not folder.is_dir():
        raise EchoFedError(
            Code.CONFIG_MISSING, "the folder to ingest does not exist", "check FOLDER"
        )
    listing = _list(folder, request)
    tasks, num_ignored, lost = _tasks(folder, listing)
    pseudonyms = Pseudonyms(store.key())
    job = partial(
        _read_one, store=store, dataset=request.dataset, source=listing.source,
        pseudonyms=pseudonyms, settings=settings,
    )  # fmt: skip
    reads, dropped = _collect(_run(job, tasks, settings.workers), advance or _silent)
    dropped = [*dropped, *lost]
    if not reads:
        raise _nothing(dropped)
    rows = _rows(folder, tasks, listing)
    reads = [
        _with_patient(read, rows[read.position].patient, listing.issuer, pseudonyms)
        for read in reads
    ]
    test_fraction = 0.0 if listing.has_published_test() else settings.test_fraction
    earlier = _earlier_splits(store, request.dataset)
    clips = _with_splits(reads, rows, earlier, (settings.val_fraction, test_fraction))
    manifest = DatasetManifest(
        id=request.dataset, site=request.site, origin=request.origin, source=listing.source,
        labels=dict(listing.views), clips=clips, kept_pixels=settings.keep_pixels,
        licence=listing.licence, purpose=request.purpose,
        created=now.isoformat(timespec="seconds"),
    )  # fmt: skip
    removed = sum((Counter(dict(read.removed)) for read in reads), Counter[str]())
    changed = _is_new(store, manifest)
    report = IngestReport(
        manifest, tuple(dropped), len(tasks), num_ignored, dict(sorted(removed.items())), changed
    )
    if changed:
        Ledger(store.ledger_path).append("dataset.ingested", report.document(), actor=request.site)
        store.save_manifest(manifest)
    store.remove_stray_clips(manifest)
    return report


def _list(folder: Path, request: IngestRequest) -> Listing:
    """Understand the folder, by a public layout or by the site's own labels."""
    if request.layout is None:
        return list_labelled(
            folder,
            request.source or "dicom",
            labels=request.labels,
            label_map=request.label_map,
            licence=request.licence,
        )
    if request.labels or request.label_map or request.source or request.licence:
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"the layout {request.layout} brings labels, label map, source and licence itself",
            "leave these options out, or leave out --layout",
        )
    return LAYOUTS[request.layout](folder)


def _tasks(folder: Path, listing: Listing) -> tuple[list[_Task], int, list[Dropped]]:
    """Files to read in order, how many others there are, and listed files that are not there."""
    files, num_ignored, num_lost = choose_files(folder, listing)
    gone = Dropped(
        -1, "", Code.DATA_UNREADABLE.name, "a file named in the labels is not in the folder"
    )
    return [_Task(place, path) for place, path in enumerate(files)], num_ignored, [gone] * num_lost


def _rows(folder: Path, tasks: Sequence[_Task], listing: Listing) -> dict[int, LabelRow]:
    """What the listing says of each file, by its position."""
    unsaid = LabelRow("", None)
    return {
        task.position: listing.rows.get(task.path.relative_to(folder).as_posix(), unsaid)
        for task in tasks
    }


def _run(
    job: Callable[[_Task], _Read | Dropped | _Failed], tasks: Sequence[_Task], workers: int
) -> Iterator[_Read | Dropped | _Failed]:
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
) -> _Read | Dropped | _Failed:
    """Read, de-identify and store one file; a fault of the file is a result, not an exception."""
    sha256 = ""
    try:
        reader = SOURCES[source]
        data = reader.read(task.path)
        sha256 = hashlib.sha256(data).hexdigest()[:12]
        opened = reader.open(data)
        header = opened.header()
        key = pseudonyms.clip(data, settings.keep_pixels)
        path = store.clip_path(dataset, key)
        clip = _stored_earlier(path)
        if clip is None:
            clip = deidentify(opened.clip(), settings.keep_pixels, settings.modes)
            digest = store.save_clip(dataset, key, clip)
        else:
            require_wanted(clip.mode, settings.modes)
            digest = file_sha256(path)
    except EchoFedError as error:
        if error.code in _OF_A_FILE:
            return Dropped(task.position, sha256, error.code.name, error.message)
        return _Failed(error.code, error.message, error.hint)
    record = ClipRecord(
        key=key,
        patient=pseudonyms.patient(header.patient),
        label="",
        split="train",
        num_frames=len(clip.pixels_THW),
        file=path.relative_to(store.dataset_folder(dataset)).as_posix(),
        sha256=digest,
        has_mask=clip.mask_HW is not None,
    )
    return _Read(task.position, record, header.removed)


def _stored_earlier(path: Path) -> StoredClip | None:
    try:
        return load_clip(path) if path.is_file() else None
    except EchoFedError:
        return None


def _collect(
    results: Iterator[_Read | Dropped | _Failed], advance: Advance
) -> tuple[list[_Read], list[Dropped]]:
    """Sort results; a copy of a file that is there already is dropped."""
    reads: dict[str, _Read] = {}
    dropped: list[Dropped] = []
    for result in results:
        if isinstance(result, _Failed):
            raise EchoFedError(result.code, result.message, result.hint)
        if isinstance(result, Dropped):
            dropped.append(result)
        elif result.record.key in reads:
            dropped.append(
                Dropped(
                    result.position, "", Code.ALREADY_EXISTS.name, "a file is a copy of another"
                )
            )
        else:
            reads[result.record.key] = result
        advance(1, f"{len(dropped)} dropped" if dropped else "")
    return list(reads.values()), dropped


def _with_patient(read: _Read, patient: str | None, issuer: str, pseudonyms: Pseudonyms) -> _Read:
    """The read under the pseudonym of the patient that the labels name, if they name one."""
    if patient is None:
        return read
    key = pseudonyms.patient(identity_of(patient, issuer))
    return replace(read, record=replace(read.record, patient=key))


def _with_splits(
    reads: Sequence[_Read],
    rows: Mapping[int, LabelRow],
    earlier: Mapping[str, Split],
    shares: tuple[float, float],
) -> tuple[ClipRecord, ...]:
    """Records with label and split, in the order of their keys; shares are of val and test."""
    given = [
        replace(read.record, split=split)
        for read in reads
        if (split := rows[read.position].split) is not None
    ]
    require_patients_apart(given)
    fixed = {**earlier, **{record.patient: record.split for record in given}}
    splits = draw_splits(
        (read.record.patient for read in reads),
        fixed,
        val_fraction=shares[0],
        test_fraction=shares[1],
    )
    records = (
        replace(read.record, label=rows[read.position].label, split=splits[read.record.patient])
        for read in reads
    )
    return tuple(sorted(records, key=lambda record: record.key))


def _earlier_splits(store: SiteStore, dataset: str) -> dict[str, Split]:
    if dataset not in store.datasets():
        return {}
    return {clip.patient: clip.split for clip in store.manifest(dataset).clips}


def _is_new(store: SiteStore, manifest: DatasetManifest) -> bool:
    if manifest.id not in store.datasets():
        return True
    return replace(store.manifest(manifest.id), created=manifest.created) != manifest


def _nothing(dropped: Sequence[Dropped]) -> EchoFedError:
    reasons = Counter(drop.code for drop in dropped)
    listed = ", ".join(f"{code}: {count}" for code, count in sorted(reasons.items()))
    return EchoFedError(
        Code.NOTHING_INGESTED,
        f"no file became a clip ({listed or 'the folder has no file of this source'})",
        "check the folder and the source; every reason is explained in the README's error table",
    )


def _silent(units: int, note: str) -> None:
    """Advance nothing."""
