"""Whether the datasets are whole: clips are what they were and none waits for a person."""

from collections.abc import Iterator, Sequence

import numpy as np

from shared.echo.manifest import ClipRecord
from shared.errors import Code, EchoFedError
from site_client.doctor.finding import Finding, Premises, fault, fine, warn
from site_client.quarantine import waiting_clips
from site_client.store import MANIFEST_FILE, SiteStore, file_sha256

_SAMPLE = 50  # clips of a dataset that are read where not all are
_AGAIN = "ingest the dataset again: whole clips stay, the others are made anew"


def check(premises: Premises) -> Iterator[Finding]:
    """Each dataset, folders of an ingest that never ended, and clips that were held back."""
    store = premises.store
    for name in store.datasets():
        yield from _look_at_dataset(store, name, is_full=premises.is_full)
    folder = store.root / "datasets"
    open_ends = [
        path.name
        for path in sorted(folder.glob("*"))
        if path.is_dir() and not (path / MANIFEST_FILE).is_file()
    ]
    for name in open_ends:
        yield warn(
            f"dataset {name} was never finished",
            "run the same ingest or synthesize again, or delete its folder",
        )
    if not store.datasets() and not open_ends:
        yield fine("the site has no dataset yet")
    if waiting := len(waiting_clips(store)):
        yield warn(
            f"{waiting} clips with text in their sector wait for a person",
            "look at them with echofed-site review, decide, and ingest again",
        )


def _look_at_dataset(store: SiteStore, name: str, *, is_full: bool) -> Iterator[Finding]:
    try:
        manifest = store.manifest(name)
    except EchoFedError as error:
        yield fault(error.code, f"dataset {name}: {error.message}", error.hint)
        return
    clips, folder = manifest.clips, store.dataset_folder(name)
    if manifest.origin == "real" and manifest.label_map_sha256 and not manifest.is_signed:
        yield warn(
            f"dataset {name}: nobody signed its label map",
            "let a cardiologist read and sign it, then ingest the dataset again",
        )
    missing = sum(not (folder / clip.file).is_file() for clip in clips)
    if missing:
        what = f"dataset {name}: {missing} of {len(clips)} clips are missing"
        yield fault(Code.CHECKPOINT_CORRUPT, what, f"{_AGAIN}; or finish a forget that was cut off")
    looked_at = clips if is_full else _spread_sample(clips)
    altered = sum(_is_altered(store, name, clip) for clip in looked_at)
    if altered:
        what = f"dataset {name}: {altered} of {len(looked_at)} clips read are not what they were"
        yield fault(Code.CHECKPOINT_CORRUPT, what, _AGAIN)
    if not missing and not altered:
        yield fine(f"dataset {name}: {len(clips)} clips are there, {len(looked_at)} read are whole")


def _spread_sample(clips: Sequence[ClipRecord]) -> Sequence[ClipRecord]:
    """Other clips each time, so that runs add up."""
    if len(clips) <= _SAMPLE:
        return clips
    places = np.random.default_rng().choice(len(clips), _SAMPLE, replace=False)
    return [clips[place] for place in places]


def _is_altered(store: SiteStore, dataset: str, clip: ClipRecord) -> bool:
    path = store.dataset_folder(dataset) / clip.file
    return path.is_file() and file_sha256(path) != clip.sha256
