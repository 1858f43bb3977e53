"""Forget: every clip of one patient goes, held ones too, and every export of the old content.

Notes of held clips and the manifest go last: a run that ended half-way still finds the patient in
them, and doing it again goes on from there; at worst the ledger then tells of it twice.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace

from shared.echo.expert import ExpertCard
from shared.echo.manifest import DatasetManifest
from shared.errors import Code, EchoFedError
from shared.ledger import Ledger
from site_client.datasets.raw import identity_of
from site_client.deidentify import Pseudonyms
from site_client.quarantine import erase_note, erase_pixels, held_clips
from site_client.rounds.exports import prune_exports
from site_client.store import SiteStore


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What went from one dataset.

    Args:
        content_before: hash of the content with the patient; ``content_after`` without.
        num_held: clips in quarantine that went, decided or not; all else is empty where only such
            clips were of the patient.
        num_exports: kept exports that were deleted.
        experts: this site's experts that were trained on the content with the patient.
        experts_earlier: those trained on an earlier content of the dataset, in which the patient
            may have been.
        models: this site's segmenters and synthesizers of the dataset, whatever its content was;
            the latter hold an embedding of each frame that they learnt from.
    """

    dataset: str
    num_clips: int = 0
    num_frames: int = 0
    num_held: int = 0
    num_exports: int = 0
    content_before: str = ""
    content_after: str = ""
    experts: tuple[str, ...] = ()
    experts_earlier: tuple[str, ...] = ()
    models: tuple[str, ...] = ()

    def document(self) -> dict[str, object]:
        """Counts, hashes and experts, for a person and the ledger; nothing of the patient."""
        return {
            "dataset": self.dataset,
            "clips": self.num_clips,
            "frames": self.num_frames,
            "held": self.num_held,
            "exports": self.num_exports,
            "content_before": self.content_before,
            "content_after": self.content_after,
            "experts": list(self.experts),
            "experts_of_earlier_content": list(self.experts_earlier),
            "models": list(self.models),
        }


def patient_key(key: bytes, patient: str, issuer: str) -> str:
    """The pseudonym that a hospital's patient id got here.

    Args:
        key: the site's secret key.
        patient: the hospital's id.
        issuer: who gave the id, where the files name one (IssuerOfPatientID).

    Raises:
        EchoFedError: CONFIG_INVALID for an empty id.
    """
    name = patient.strip()
    if not name:
        raise EchoFedError(Code.CONFIG_INVALID, "the patient id is empty", "give the hospital's id")
    return Pseudonyms(key).patient(identity_of(name, issuer.strip()))


def forget(
    store: SiteStore, patient: str, datasets: Sequence[str], *, site: str
) -> tuple[Forgotten, ...]:
    """Erase a patient's clips and what was made of them; record it, without the patient's key.

    Args:
        store: the site's.
        patient: its pseudonym.
        datasets: where to look.
        site: site code, for the ledger; its experts are looked through.

    Returns:
        What went, for each dataset that held the patient.

    Raises:
        EchoFedError: DATASET_UNKNOWN, or PATIENT_UNKNOWN where no dataset holds the patient;
            nothing is changed then.
    """
    waiting = held_clips(store)
    held = [note for note in waiting if note.patient == patient and note.dataset in datasets]
    holding = _manifests_with(store, patient, datasets, unfinished={n.dataset for n in waiting})
    if not holding and not held:
        raise EchoFedError(
            Code.PATIENT_UNKNOWN,
            f"no clip in {', '.join(datasets) or 'this site'} is of this patient",
            "check the id, and --issuer if the files name one; or it is done already",
        )
    cards = [card for card in store.expert_cards() if card.site == site]
    done = []
    for name in dict.fromkeys([*holding, *(note.dataset for note in held)]):
        notes = [note for note in held if note.dataset == name]
        for note in notes:
            erase_pixels(store, note)
        before = holding.get(name)
        after = _without(before, patient) if before else None
        one = Forgotten(name)
        if before and after:
            one = _erase_clips(store, before, after, cards, site=site)
        one = replace(one, num_held=len(notes))
        Ledger(store.ledger_path).append("patient.forgotten", one.document(), actor=site)
        for note in notes:
            erase_note(store, note)
        if after:
            store.save_manifest(after)
        done.append(one)
    return tuple(done)


def _manifests_with(
    store: SiteStore, patient: str, datasets: Sequence[str], *, unfinished: Set[str]
) -> dict[str, DatasetManifest]:
    """Manifests that name the patient; a dataset with held clips may have none yet."""
    names = [name for name in datasets if name in store.datasets() or name not in unfinished]
    return {
        manifest.id: manifest
        for manifest in map(store.manifest, names)
        if any(clip.patient == patient for clip in manifest.clips)
    }


def _without(manifest: DatasetManifest, patient: str) -> DatasetManifest:
    return replace(manifest, clips=tuple(c for c in manifest.clips if c.patient != patient))


def _erase_clips(
    store: SiteStore,
    before: DatasetManifest,
    after: DatasetManifest,
    cards: Sequence[ExpertCard],
    *,
    site: str,
) -> Forgotten:
    """Delete the clips and exports that ``after`` does not know any more."""
    others = {store.manifest(name).content_hash() for name in store.datasets() if name != before.id}
    store.remove_stray_clips(after)
    store.preview_path(after.id).unlink(missing_ok=True)
    own = [one for one in store.model_cards() if one.site == site and before.id in one.datasets]
    store.remove_pictures([card.id for card in own if card.kind == "synthesizer"])
    _forget_files(store, after)
    num_exports = prune_exports(store, {*others, after.content_hash()})
    content = before.content_hash()
    frames_before, frames_after = (
        sum(clip.num_frames for clip in manifest.clips) for manifest in (before, after)
    )
    return Forgotten(
        dataset=before.id,
        num_clips=len(before.clips) - len(after.clips),
        num_frames=frames_before - frames_after,
        num_exports=num_exports,
        content_before=content,
        content_after=after.content_hash(),
        experts=tuple(card.id for card in cards if content in card.dataset_hashes),
        experts_earlier=tuple(
            card.id
            for card in cards
            if before.id in card.datasets and content not in card.dataset_hashes
        ),
        models=tuple(card.id for card in own),
    )


def _forget_files(store: SiteStore, after: DatasetManifest) -> None:
    """Leave only files of staying clips in the journal; the others are read again if they come."""
    journal, staying = store.journal(after.id), {clip.key for clip in after.clips}
    entries = journal.entries()
    kept = [e for e in entries.values() if e.record is not None and e.record.key in staying]
    if len(kept) < len(entries):
        journal.rewrite(kept)
