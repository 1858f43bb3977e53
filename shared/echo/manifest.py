"""A dataset of one site: its clips, label map, splits by patient, licence and purpose."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import rfc8785

from shared.echo.label_sets import says_something
from shared.echo.ontology import ONTOLOGY_VERSION, OTHER, LabelMap
from shared.echo.origin import Origin
from shared.echo.schema import from_document, to_document
from shared.echo.synthesis import Synthesis
from shared.errors import Code, EchoFedError
from shared.files import read_json, write_json

MANIFEST_VERSION = 2
Split = Literal["train", "val", "test"]
TextState = Literal["unchecked", "none", "kept", "blanked"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
"""The code of a split on the wire is its place here."""


@dataclass(frozen=True, slots=True)
class ClipRecord:
    """One stored clip.

    Args:
        label: the site's word, empty where none was given.
        study: pseudonym of its study, empty where the source knows no studies.
        date: of the study, moved by the patient's own number of days; empty where it is unknown.
        num_blanked: pixels of all frames that de-identification made zero, None where it was not
            counted.
        text: what is known of text inside its sector.
        structures: what its annotation names, background first; empty where it has none.
        synthesis: how it was drawn; None for what was imaged, and where nobody knows.
    """

    key: str
    patient: str
    label: str
    split: Split
    num_frames: int
    file: str
    sha256: str
    has_mask: bool = True
    study: str = ""
    date: str = ""
    num_blanked: int | None = None
    text: TextState = "unchecked"
    structures: tuple[str, ...] = ()
    synthesis: Synthesis | None = None


@dataclass(frozen=True, slots=True)
class DatasetManifest:
    """What a dataset is and may be used for.

    Args:
        id: name of the dataset, unique at the site.
        site: site code.
        origin: every table says it; a synthetic dataset has no test clips.
        labels: site label -> views.
        clips: stored clips.
        kept_pixels: what de-identification kept: ``sector``, ``region`` or ``screen``.
        annotated: leaves that the site would have labelled had it imaged them, by its label map or
            public layout; empty where there is none, which rules nothing out.
        never_images, folds: the site's other views, as in ``LabelMap``.
        label_map_sha256: hash of the label map's file, empty where labels are views themselves.
        is_signed: whether somebody put a name to that file.
    """

    id: str
    site: str
    origin: Origin
    source: str
    labels: dict[str, tuple[str, ...]]
    clips: tuple[ClipRecord, ...]
    kept_pixels: Literal["sector", "region", "screen"]
    licence: str = ""
    purpose: str = ""
    created: str = ""
    annotated: tuple[str, ...] = ()
    never_images: tuple[str, ...] = ()
    folds: dict[str, str] = field(default_factory=dict)
    label_map_sha256: str = ""
    is_signed: bool = False
    ontology_version: int = ONTOLOGY_VERSION
    version: int = MANIFEST_VERSION

    def __post_init__(self) -> None:
        """Keep patients in one split each, and what was drawn apart and out of the test split."""
        require_patients_apart(self.clips)
        if self.origin == "synthetic" and any(clip.split == "test" for clip in self.clips):
            raise not_judged_on(self.id)
        if self.origin != "synthetic" and any(clip.synthesis for clip in self.clips):
            raise EchoFedError(
                Code.ORIGIN_UNFIT,
                f"dataset {self.id} of origin {self.origin} holds clips that were drawn",
                "keep them in a dataset of their own",
            )

    def label_map(self) -> LabelMap:
        """The label map as sets, empty for a label that says nothing."""
        return LabelMap(
            {
                label: frozenset(views if says_something(views, self.annotated) else ())
                for label, views in self.labels.items()
            }
        )

    def of_split(self, split: Split) -> tuple[ClipRecord, ...]:
        """The labelled clips of one split, in stored order."""
        return tuple(clip for clip in self.clips if clip.split == split and clip.label)

    def num_patients(self, clips: Iterable[ClipRecord] | None = None) -> int:
        """How many different patients the clips (or all clips) come from."""
        return len({clip.patient for clip in (self.clips if clips is None else clips)})

    def content_hash(self) -> str:
        """SHA-256 of labels, splits and pixels; changes when the dataset does.

        The record of other views counts where a label's meaning rests on it.
        """
        rows = sorted(
            [clip.key, clip.patient, clip.label, clip.split, clip.sha256] for clip in self.clips
        )
        content: dict[str, Any] = {
            "clips": rows,
            "labels": {label: sorted(views) for label, views in self.labels.items()},
        }
        if self.folds or any(OTHER in views for views in self.labels.values()):
            content |= {
                "annotated": sorted(self.annotated),
                "never_images": sorted(self.never_images),
                "folds": self.folds,
            }
        return hashlib.sha256(rfc8785.dumps(content)).hexdigest()


def require_patients_apart(clips: Iterable[ClipRecord]) -> None:
    """Refuse a patient in two splits.

    Raises:
        EchoFedError: PATIENT_IN_TWO_SPLITS with the number of such patients, not their keys.
    """
    split_of: dict[str, str] = {}
    torn = {
        clip.patient
        for clip in clips
        if split_of.setdefault(clip.patient, clip.split) != clip.split
    }
    if torn:
        raise EchoFedError(
            Code.PATIENT_IN_TWO_SPLITS,
            f"{len(torn)} patient(s) stand in more than one split",
            "give each patient one split in the labels file, or leave the column out",
        )


def not_judged_on(dataset: str) -> EchoFedError:
    """The error of judging a model on pictures that another model drew."""
    return EchoFedError(
        Code.ORIGIN_UNFIT,
        f"dataset {dataset} is synthetic, and no model is judged on synthetic pictures",
        "judge on a dataset of patients or of the phantom; train on this one",
    )


def save_manifest(manifest: DatasetManifest, path: Path) -> None:
    """Write the manifest atomically."""
    write_json(path, to_document(manifest))


def load_manifest(path: Path) -> DatasetManifest:
    """Read a manifest.

    Raises:
        EchoFedError: CARD_NEWER, CHECKPOINT_CORRUPT, PATIENT_IN_TWO_SPLITS, ORIGIN_UNFIT.
    """
    return from_document(DatasetManifest, read_json(path), version=MANIFEST_VERSION)
