"""Forget: every clip of one patient goes, held back or not, and every export of the old content.

The manifest is rewritten last: a run that ended half-way still finds the patient in it, and doing
it again goes on from there; at worst the ledger then tells of it twice.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from shared.echo.expert import CARD_FILE, ExpertCard, read_expert_card
from shared.echo.manifest import ClipRecord, DatasetManifest
from shared.errors import Code, EchoFedError
from shared.files import read_json
from shared.ledger import Ledger
from site_client.datasets.raw import identity_of
from site_client.deidentify import Pseudonyms
from site_client.quarantine import forget_held, held_of
from site_client.rounds.exports import prune_exports
from site_client.store import SiteStore

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What went from one dataset.

    Args:
        content_before: hash of the content with the patient; ``content_after`` without.
        num_held: clips of the patient that were held back or decided about.
        num_exports: kept exports that were deleted.
        experts: this site's experts that were trained on the content with the patient.
        experts_earlier: those trained on an earlier content of the dataset, in which the patient
            may have been.
    """

    dataset: str
    num_clips: int
    num_frames: int
    num_held: int
    num_exports: int
    content_before: str
    content_after: str
    experts: tuple[str, ...]
    experts_earlier: tuple[str, ...]

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
    holding = [
        manifest
        for manifest in map(store.manifest, datasets)
        if any(clip.patient == patient for clip in manifest.clips)
        or held_of(store, patient, manifest.id)
    ]
    if not holding:
        raise EchoFedError(
            Code.PATIENT_UNKNOWN,
            f"no clip in {', '.join(datasets) or 'this site'} is of this patient",
            "check the id, and --issuer if the files name one; or it is done already",
        )
    cards = _own_cards(store, site)
    return tuple(_forget_one(store, patient, manifest, cards, site) for manifest in holding)


def _forget_one(
    store: SiteStore,
    patient: str,
    before: DatasetManifest,
    cards: Sequence[ExpertCard],
    site: str,
) -> Forgotten:
    """Clips, notes and exports first, then the ledger, the manifest last."""
    going: list[ClipRecord] = [clip for clip in before.clips if clip.patient == patient]
    staying = tuple(clip for clip in before.clips if clip.patient != patient)
    after = replace(before, clips=staying)
    others = {store.manifest(name).content_hash() for name in store.datasets() if name != before.id}
    num_held = forget_held(store, held_of(store, patient, before.id))
    store.remove_stray_clips(after)
    _forget_files(store, after)
    num_exports = prune_exports(store, {*others, after.content_hash()})
    content = before.content_hash()
    done = Forgotten(
        dataset=before.id,
        num_clips=len(going),
        num_frames=sum(clip.num_frames for clip in going),
        num_held=num_held,
        num_exports=num_exports,
        content_before=content,
        content_after=after.content_hash(),
        experts=tuple(card.id for card in cards if content in card.dataset_hashes),
        experts_earlier=tuple(
            card.id
            for card in cards
            if before.id in card.datasets and content not in card.dataset_hashes
        ),
    )
    Ledger(store.ledger_path).append("patient.forgotten", done.document(), actor=site)
    store.save_manifest(after)
    return done


def _forget_files(store: SiteStore, after: DatasetManifest) -> None:
    """Leave only files of staying clips in the journal; the others are read again if they come."""
    journal, staying = store.journal(after.id), {clip.key for clip in after.clips}
    entries = journal.entries()
    kept = [e for e in entries.values() if e.record is not None and e.record.key in staying]
    if len(kept) < len(entries):
        journal.rewrite(kept)


def _own_cards(store: SiteStore, site: str) -> list[ExpertCard]:
    """Cards of the experts trained here; a damaged one does not keep a patient from going."""
    cards = []
    for name in store.experts():
        try:
            card = read_expert_card(read_json(store.expert_folder(name) / CARD_FILE))
        except EchoFedError as error:
            log.warning("expert %s is not looked at: %s", name, error)
            continue
        if card.site == site:
            cards.append(card)
    return cards
