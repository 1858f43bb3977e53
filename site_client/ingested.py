"""What an ingest gives: the dataset, what was dropped and why, as counts for a person."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shared.echo.manifest import SPLITS, DatasetManifest
from shared.errors import Code, EchoFedError


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
        num_known: files of clips that were done before and not read again.
        removed: header elements removed, by kind.
    """

    manifest: DatasetManifest
    dropped: tuple[Dropped, ...]
    num_files: int
    num_ignored: int
    num_known: int
    removed: dict[str, int]
    changed: bool

    def document(self) -> dict[str, Any]:
        """Counts for a person, the ledger and ``--json``; nothing of a patient."""
        clips = self.manifest.clips
        return {
            "dataset": self.manifest.id,
            "files": self.num_files,
            "ignored": self.num_ignored,
            "known": self.num_known,
            "copies": sum(drop.code == Code.ALREADY_EXISTS.name for drop in self.dropped),
            "held": sum(drop.code == Code.TEXT_FOUND.name for drop in self.dropped),
            "ingested": len(clips),
            "frames": sum(clip.num_frames for clip in clips),
            "without_mask": sum(not clip.has_mask for clip in clips),
            "annotated": sum(bool(clip.structures) for clip in clips),
            "unlabelled": sum(not clip.label for clip in clips),
            "clips": {name: sum(c.split == name for c in clips) for name in SPLITS},
            "patients": {
                name: self.manifest.num_patients(c for c in clips if c.split == name)
                for name in SPLITS
            },
            "labels": dict(sorted(Counter(clip.label for clip in clips if clip.label).items())),
            "source": self.manifest.source,
            "licence": self.manifest.licence,
            "kept_pixels": self.manifest.kept_pixels,
            "label_map_sha256": self.manifest.label_map_sha256,
            "label_map_signed": self.manifest.is_signed,
            "header_elements_removed": self.removed,
            "dropped": dict(sorted(Counter(drop.code for drop in self.dropped).items())),
            "content_sha256": self.manifest.content_hash(),
            "changed": self.changed,
        }


def nothing_ingested(dropped: Sequence[Dropped]) -> EchoFedError:
    """The error of a folder that gave no clip, with the counts of why."""
    reasons = Counter(drop.code for drop in dropped)
    listed = ", ".join(f"{code}: {count}" for code, count in sorted(reasons.items()))
    return EchoFedError(
        Code.NOTHING_INGESTED,
        f"no file became a clip ({listed or 'the folder has no file of this source'})",
        "check the folder and the source, and look at what was held back with echofed-site review; "
        "every reason is explained in the README's error table",
    )
