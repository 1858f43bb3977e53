"""Quarantine: clips with text inside the sector wait there, de-identified, for a person's decision.

A held clip is two files named by its key: a note with the boxes and the decision, and the pixels,
which go as soon as there is a decision; the next ingest reads the file again and obeys the note.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from shared.echo.schema import from_document, to_document
from shared.errors import Code, EchoFedError
from shared.files import read_json, write_json
from site_client.clip_file import StoredClip, load_clip, save_clip
from site_client.store import SiteStore
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
        patient: the patient's pseudonym, by which a held clip is forgotten too.
        dataset: it was to become part of.
        boxes: where text was found.
        decision: empty while nobody has decided.
    """

    key: str
    patient: str
    dataset: str
    num_frames: int
    boxes: tuple[TextBox, ...]
    decision: Literal["", "keep", "blank", "drop"] = ""
    version: int = NOTE_VERSION


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A clip that asks to enter a dataset.

    Args:
        key: of the clip; ``patient`` is whose it is, both by pseudonym.
        dataset: it is to become part of.
        decode: reads and de-identifies the file; called only where its pixels are needed.
        shows_more: whether more than the sector is kept, so that text may stand outside it too.
    """

    key: str
    patient: str
    dataset: str
    decode: Callable[[], StoredClip]
    shows_more: bool = False


def admit(store: SiteStore, candidate: Candidate, on_text: OnText) -> StoredClip:
    """The clip as it may enter its dataset.

    Args:
        store: the site's folder.
        candidate: the clip.
        on_text: what happens to a clip with text in its sector.

    Raises:
        EchoFedError: TEXT_FOUND where the clip is held back, or was dropped by a person.
    """
    note = _note(store, candidate)
    if note is not None and note.decision:
        return _obey(note, candidate)
    if note is not None and on_text == "quarantine" and _pixels(store, note.key).is_file():
        raise _held()
    if note is not None:
        erase_pixels(store, note)
        erase_note(store, note)
    clip = candidate.decode()
    if on_text == "keep":
        return clip
    where_HW = _where_to_look(candidate, clip)
    boxes = find_text(clip.pixels_THW, where_HW)
    if not boxes:
        return replace(clip, text="none")
    blanked = _blank(clip, boxes, where_HW) if on_text == "blank" else None
    if blanked is None:
        _hold(store, candidate, clip, boxes)
        raise _held()
    return blanked


def clean(store: SiteStore, candidate: Candidate) -> StoredClip:
    """The clip for one look, of which nothing is kept: as a person decided, else text is blanked.

    Raises:
        EchoFedError: TEXT_FOUND where a person dropped it, or where text is left after blanking.
    """
    path = _note_path(store, candidate.key)
    note = _read(path) if path.is_file() else None
    if note is not None and note.decision:
        return _obey(note, candidate)
    clip = candidate.decode()
    where_HW = _where_to_look(candidate, clip)
    boxes = find_text(clip.pixels_THW, where_HW)
    cleaned = _blank(clip, boxes, where_HW) if boxes else replace(clip, text="none")
    if cleaned is None:
        raise EchoFedError(
            Code.TEXT_FOUND,
            "a file shows text after blanking too",
            "ingest it, look at it with echofed-site review, and decide",
        )
    return cleaned


def decision_about(store: SiteStore, key: str) -> str:
    """What a person decided about a clip; empty where nobody did or had to."""
    path = _note_path(store, key)
    return _read(path).decision if path.is_file() else ""


def held_clips(store: SiteStore) -> tuple[HeldClip, ...]:
    """All notes by key, those that are decided too."""
    return tuple(_read(path) for path in sorted(_folder(store).glob("*.json")))


def waiting_clips(store: SiteStore) -> tuple[HeldClip, ...]:
    """Notes of the clips that nobody has decided about."""
    return tuple(note for note in held_clips(store) if not note.decision)


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
    erase_pixels(store, note)
    return decided


def erase_pixels(store: SiteStore, note: HeldClip) -> None:
    """Delete the pictures of a held clip; its note stays."""
    _pixels(store, note.key).unlink(missing_ok=True)


def erase_note(store: SiteStore, note: HeldClip) -> None:
    """Delete the note of a clip, and with it what a person decided."""
    _note_path(store, note.key).unlink(missing_ok=True)


def _obey(note: HeldClip, candidate: Candidate) -> StoredClip:
    if note.decision == "drop":
        raise EchoFedError(
            Code.TEXT_FOUND,
            "a file was left out by a person's review",
            f"echofed-site review {note.key[:8]} changes the decision",
        )
    clip = candidate.decode()
    if note.decision == "keep":
        return replace(clip, text="kept")
    blanked = _blank(clip, note.boxes, _where_to_look(candidate, clip))
    if blanked is None:
        raise EchoFedError(
            Code.TEXT_FOUND,
            "a file shows text after blanking too",
            f"decide again: echofed-site review {note.key[:8]} --keep or --drop",
        )
    return blanked


def _where_to_look(candidate: Candidate, clip: StoredClip) -> NDArray[np.bool_]:
    if clip.mask_HW is None or candidate.shows_more:
        return np.ones(clip.pixels_THW.shape[1:], dtype=np.bool_)
    return clip.mask_HW


def _blank(
    clip: StoredClip, boxes: tuple[TextBox, ...], where_HW: NDArray[np.bool_]
) -> StoredClip | None:
    """The clip with its text zero in every frame; None where some is still found."""
    blank_HW = np.zeros(clip.pixels_THW.shape[1:], dtype=np.bool_)
    for _ in range(_MAX_ROUNDS):
        for box in boxes:
            blank_HW[box.slices()] = True
        boxes = find_text(clip.pixels_THW, where_HW & ~blank_HW)
        if not boxes:
            more_HW = blank_HW if clip.mask_HW is None else blank_HW & clip.mask_HW
            return replace(
                clip,
                pixels_THW=clip.pixels_THW * ~blank_HW,
                num_blanked=(clip.num_blanked or 0) + len(clip.pixels_THW) * int(more_HW.sum()),
                text="blanked",
            )
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


def _note_path(store: SiteStore, key: str) -> Path:
    return _folder(store) / f"{key}.json"


def _note(store: SiteStore, candidate: Candidate) -> HeldClip | None:
    """The clip's note if it was held back, under the patient that the labels name by now."""
    path = _note_path(store, candidate.key)
    if not path.is_file():
        return None
    note = _read(path)
    if note.patient != candidate.patient:
        note = replace(note, patient=candidate.patient)
        _write(store, note)
    return note


def _hold(
    store: SiteStore, candidate: Candidate, clip: StoredClip, boxes: tuple[TextBox, ...]
) -> None:
    """Store the clip beside its dataset; the note comes first, so that forgetting finds it."""
    key, patient, dataset = candidate.key, candidate.patient, candidate.dataset
    _write(store, HeldClip(key, patient, dataset, len(clip.pixels_THW), boxes))
    save_clip(_pixels(store, key), clip)


def _read(path: Path) -> HeldClip:
    return from_document(HeldClip, read_json(path), version=NOTE_VERSION)


def _write(store: SiteStore, note: HeldClip) -> None:
    write_json(_note_path(store, note.key), to_document(note))
