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
from typing import Any, Literal

from shared.echo.manifest import SPLITS, ClipRecord, DatasetManifest, Split, require_patients_apart
from shared.errors import Code, EchoFedError
from shared.ledger import Ledger
from site_client.datasets import SOURCES
from site_client.datasets.labels import LabelRow, read_label_map, read_label_rows
from site_client.datasets.splits import draw_splits
from site_client.deidentify import (
    Pseudonyms,
    deidentify,
    require_allowed,
    require_looked_at,
)
from site_client.quarantine import admit
from site_client.settings import IngestSettings
from site_client.store import SiteStore, StoredClip, file_sha256, load_clip, require_name

Advance = Callable[[int, str], None]
_OF_A_FILE = {
    Code.DATA_UNREADABLE,
    Code.PIXELS_MISSING,
    Code.FRAMES_MISSING,
    Code.SECTOR_EMPTY,
    Code.TEXT_FOUND,
}
"""Faults of one file, which is dropped; any other fault ends the run."""


@dataclass(frozen=True, slots=True)
class IngestRequest:
    """What shall become a dataset.

    Args:
        dataset: its name at this site.
        labels: CSV with file,label[,split]; None leaves every clip without a label.
        label_map: YAML label -> view(s); None reads the labels as view names.
    """

    dataset: str
    site: str
    origin: Literal["phantom", "real"]
    labels: Path | None = None
    label_map: Path | None = None
    source: str = "dicom"
    purpose: str = ""
    licence: str = ""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A file that was left out, and why.

    Args:
        position: place in the sorted listing of the files, -1 for one that is not there.
        sha256: start of the file's SHA-256, to find it again without naming it.
    """

    position: int
    sha256: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What happened.

    Args:
        num_ignored: files in the folder that are not of this source.
        removed: header elements removed, by kind.
    """

    manifest: DatasetManifest
    dropped: tuple[Dropped, ...]
    num_files: int
    num_ignored: int
    removed: dict[str, int]
    changed: bool

    def document(self) -> dict[str, Any]:
        """Counts for a person, the ledger and ``--json``; nothing of a patient."""
        clips = self.manifest.clips
        return {
            "dataset": self.manifest.id,
            "files": self.num_files,
            "ignored": self.num_ignored,
            "held": sum(drop.code == Code.TEXT_FOUND.name for drop in self.dropped),
            "ingested": len(clips),
            "frames": sum(clip.num_frames for clip in clips),
            "without_mask": sum(not clip.has_mask for clip in clips),
            "unlabelled": sum(not clip.label for clip in clips),
            "clips": {name: sum(c.split == name for c in clips) for name in SPLITS},
            "patients": {
                name: self.manifest.num_patients(c for c in clips if c.split == name)
                for name in SPLITS
            },
            "labels": dict(sorted(Counter(clip.label for clip in clips if clip.label).items())),
            "kept_pixels": self.manifest.kept_pixels,
            "header_elements_removed": self.removed,
            "dropped": dict(sorted(Counter(drop.code for drop in self.dropped).items())),
            "content_sha256": self.manifest.content_hash(),
            "changed": self.changed,
        }


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
    require_looked_at(settings.text, request.origin)
    if not folder.is_dir():
        raise EchoFedError(
            Code.CONFIG_MISSING, "the folder to ingest does not exist", "check FOLDER"
        )
    rows = read_label_rows(request.labels, folder) if request.labels else {}
    labels = read_label_map(request.label_map, rows)
    tasks, num_ignored, lost = _list_files(folder, request.source, rows)
    job = partial(
        _read_one, store=store, dataset=request.dataset, source=request.source,
        pseudonyms=Pseudonyms(store.key()), settings=settings,
    )  # fmt: skip
    reads, dropped = _collect(_run(job, tasks, settings.workers), advance or _silent)
    dropped = [*dropped, *lost]
    if not reads:
        raise _nothing(dropped)
    names = {task.position: task.path.relative_to(folder).as_posix() for task in tasks}
    by_position = {
        read.position: rows.get(names[read.position], LabelRow("", None)) for read in reads
    }
    clips = _with_splits(reads, by_position, _earlier_splits(store, request.dataset), settings)
    manifest = DatasetManifest(
        id=request.dataset, site=request.site, origin=request.origin, source=request.source,
        labels=labels, clips=clips, kept_pixels=settings.keep_pixels, licence=request.licence,
        purpose=request.purpose, created=now.isoformat(timespec="seconds"),
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


def _list_files(
    folder: Path, source: str, rows: Mapping[str, LabelRow]
) -> tuple[list[_Task], int, list[Dropped]]:
    """Files of this source in order, how many others there are, and labelled files not there."""
    reader = SOURCES[source]
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name[0] != ".")
    names = [path.relative_to(folder).as_posix() for path in files]
    chosen = [
        path
        for path, name in zip(files, names, strict=True)
        if name in rows or reader.recognises(path)
    ]
    lost = [
        Dropped(
            -1, "", Code.DATA_UNREADABLE.name, "a file named in the labels is not in the folder"
        )
        for _ in rows.keys() - set(names)
    ]
    tasks = [_Task(position, path) for position, path in enumerate(chosen)]
    return tasks, len(files) - len(chosen), lost


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
        data = _bytes_of(task.path)
        sha256 = hashlib.sha256(data).hexdigest()[:12]
        opened = SOURCES[source].open(data)
        header = opened.header()
        key = pseudonyms.clip(data, settings.keep_pixels)
        path = store.clip_path(dataset, key)
        earlier = _stored_earlier(path)
        clip = admit(
            store, key, lambda: deidentify(opened.clip(), settings.keep_pixels),
            earlier=earlier, dataset=dataset, on_text=settings.text,
        )  # fmt: skip
        digest = file_sha256(path) if clip is earlier else store.save_clip(dataset, key, clip)
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


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise EchoFedError(
            Code.DATA_UNREADABLE,
            f"a file cannot be opened ({type(error).__name__})",
            "check its permissions",
        ) from None


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


def _with_splits(
    reads: Sequence[_Read],
    rows: Mapping[int, LabelRow],
    earlier: Mapping[str, Split],
    settings: IngestSettings,
) -> tuple[ClipRecord, ...]:
    """Records with label and split, in the order of their keys."""
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
        val_fraction=settings.val_fraction,
        test_fraction=settings.test_fraction,
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
