"""Quarantine: clips with text inside the sector wait there, de-identified, for a person's decision.

A held clip is two files named by its key: a note with the boxes and the decision, and the pixels,
which go as soon as there is a decision; the next ingest reads the file again and obeys the note.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from shared.echo.schema import from_document, to_document
from shared.errors import Code, EchoFedError
from shared.files import read_json, write_json
from site_client.store import SiteStore, StoredClip, load_clip, save_clip
from site_client.text import TextBox, find_text

NOTE_VERSION = 1
Decision = Literal["keep", "blank", "drop"]
OnText = Literal["quarantine", "blank", "keep"]
_MAX_ROUNDS = 3  # of looking again at what a blanked clip still shows
_LEAST_PREFIX = 6  # characters of a key


@dataclass(frozen=True, slots=True)
class HeldClip:
    """The note of a clip that was held back.

    Args:
        key: the clip's pseudonym; the file's own name is nowhere.
        dataset: it was to become part of.
        boxes: where text was found.
        decision: empty while nobody has decided.
        patient: pseudonym, so that a patient can be forgotten here too.
    """

    key: str
    dataset: str
    num_frames: int
    boxes: tuple[TextBox, ...]
    decision: Literal["", "keep", "blank", "drop"] = ""
    patient: str = ""
    version: int = NOTE_VERSION


def admit(
    store: SiteStore,
    key: str,
    decode: Callable[[], StoredClip],
    *,
    patient: str,
    dataset: str,
    on_text: OnText,
) -> StoredClip:
    """The clip as it may enter its dataset.

    Args:
        store: the site's folder.
        key: of the clip.
        decode: reads and de-identifies the file; called only where its pixels are needed.
        patient: pseudonym of the clip's patient.
        dataset: it is to become part of.
        on_text: what happens to a clip with text in its sector.

    Raises:
        EchoFedError: TEXT_FOUND where the clip is held back, or was dropped by a person.
    """
    note = _note(store, key)
    if note is not None and note.patient != patient:
        note = replace(note, patient=patient)
        _write(store, note)
    if note is not None and note.decision:
        return _obey(note, decode)
    if note is not None and on_text == "quarantine":
        raise _held()
    if note is not None:
        _forget(store, key)
    clip = decode()
    if on_text == "keep":
        return clip
    boxes = _text_in(clip)
    if not boxes:
        return replace(clip, text="none")
    blanked = _blank(clip, boxes) if on_text == "blank" else None
    if blanked is None:
        save_clip(_pixels(store, key), clip)
        _write(store, HeldClip(key, dataset, len(clip.pixels_THW), boxes, patient=patient))
        raise _held()
    return blanked


def decision_about(store: SiteStore, key: str) -> str:
    """What a person decided about a clip; empty where nobody did or had to."""
    note = _note(store, key)
    return note.decision if note is not None else ""


def held_of(store: SiteStore, patient: str, dataset: str) -> tuple[HeldClip, ...]:
    """Notes of a patient's clips for a dataset, those that are decided too."""
    return tuple(n for n in held_clips(store) if (n.patient, n.dataset) == (patient, dataset))


def forget_held(store: SiteStore, notes: Sequence[HeldClip]) -> int:
    """Erase clips that were held back and what was decided about them; return how many."""
    for note in notes:
        _forget(store, note.key)
    return len(notes)


def held_clips(store: SiteStore) -> tuple[HeldClip, ...]:
    """All notes by key, those that are decided too."""
    return tuple(_read(path) for path in sorted(_folder(store).glob("*.json")))


def held_clip(store: SiteStore, key: str) -> HeldClip:
    """The note of a clip, by its key or the beginning of it.

    Raises:
        EchoFedError: NAME_UNKNOWN.
    """
    notes = [note for note in held_clips(store) if note.key.startswith(key)]
    if len(notes) != 1 or len(key) < _LEAST_PREFIX:
        raise EchoFedError(
            Code.NAME_UNKNOWN,
            f"{len(notes)} clips that were held back have a key that begins with {key[:32]!r}",
            "echofed-site review lists the keys; six characters or more are enough",
        )
    return notes[0]


def held_pixels(store: SiteStore, note: HeldClip) -> StoredClip:
    """The clip that waits for a decision.

    Raises:
        EchoFedError: FRAMES_MISSING once it is decided.
    """
    path = _pixels(store, note.key)
    if not path.is_file():
        raise EchoFedError(
            Code.FRAMES_MISSING,
            f"the pictures of {note.key} are not in quarantine any more",
            "they went with the decision; it may still be changed",
        )
    return load_clip(path)


def decide(store: SiteStore, note: HeldClip, decision: Decision) -> HeldClip:
    """Write a decision, which may replace an earlier one, and erase the pixels."""
    decided = replace(note, decision=decision)
    _write(store, decided)
    _pixels(store, note.key).unlink(missing_ok=True)
    return decided


def _obey(note: HeldClip, decode: Callable[[], StoredClip]) -> StoredClip:
    if note.decision == "drop":
        raise EchoFedError(
            Code.TEXT_FOUND,
            "a file was left out by a person's review",
            f"echofed-site review {note.key[:8]} changes the decision",
        )
    clip = decode()
    if note.decision == "keep":
        return replace(clip, text="kept")
    blanked = _blank(clip, note.boxes)
    if blanked is None:
        raise EchoFedError(
            Code.TEXT_FOUND,
            "a file shows text after blanking too",
            f"decide again: echofed-site review {note.key[:8]} --keep or --drop",
        )
    return blanked


def _text_in(clip: StoredClip, without_HW: NDArray[np.bool_] | None = None) -> tuple[TextBox, ...]:
    """Text in the sector; in the whole picture where no sector is known."""
    size_HW = clip.pixels_THW.shape[1:]
    mask_HW = np.ones(size_HW, dtype=np.bool_) if clip.mask_HW is None else clip.mask_HW
    return find_text(clip.pixels_THW, mask_HW if without_HW is None else mask_HW & ~without_HW)


def _blank(clip: StoredClip, boxes: tuple[TextBox, ...]) -> StoredClip | None:
    """The clip with its text zero in every frame; None where some is still found."""
    blank_HW = np.zeros(clip.pixels_THW.shape[1:], dtype=np.bool_)
    for _ in range(_MAX_ROUNDS):
        for box in boxes:
            blank_HW[box.slices()] = True
        boxes = _text_in(clip, blank_HW)
        if not boxes:
            return replace(clip, pixels_THW=clip.pixels_THW * ~blank_HW, text="blanked")
    return None


def _held() -> EchoFedError:
    return EchoFedError(
        Code.TEXT_FOUND,
        "a file may show text inside its sector and is held back",
        "look at it with echofed-site review and decide: keep, blank or drop",
    )


def _folder(store: SiteStore) -> Path:
    return store.root / "quarantine"


def _pixels(store: SiteStore, key: str) -> Path:
    return _folder(store) / f"{key}.safetensors"


def _note(store: SiteStore, key: str) -> HeldClip | None:
    path = _folder(store) / f"{key}.json"
    return _read(path) if path.is_file() else None


def _read(path: Path) -> HeldClip:
    return from_document(HeldClip, read_json(path), version=NOTE_VERSION)


def _write(store: SiteStore, note: HeldClip) -> None:
    write_json(_folder(store) / f"{note.key}.json", to_document(note))


def _forget(store: SiteStore, key: str) -> None:
    """Pixels first: the note still tells of them where this is cut off."""
    for path in (_pixels(store, key), _folder(store) / f"{key}.json"):
        path.unlink(missing_ok=True)
