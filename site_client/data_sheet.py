"""The data sheet of a dataset: what it holds, told without a count that is too small to tell.

A count of fewer patients than the policy's minimum is hidden, and so is as much beside it as keeps
it from being worked out from the total.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from shared.echo.manifest import SPLITS, ClipRecord, DatasetManifest
from shared.echo.ontology import load_ontology
from site_client.clip_file import ClipFacts
from site_client.confounds import UNKNOWN, find_shortcuts, levels_of
from site_client.store import SiteStore

Advance = Callable[[int, str], None]
WITHHELD = "withheld"
"""Stands for a count that is large enough, but would give a hidden one away."""
_WITHHELD_ROW = {"patients": WITHHELD, "clips": None, "frames": None}
_MAX_GROUPS = 12  # rows of a table of sizes; the rarer ones stand together
_OTHERS = "others"
_SHUFFLE_SEED = 0  # the sheet of a content is always the same


class Counted(Protocol):
    """What is counted: a clip of a dataset, or one that was held back."""

    @property
    def patient(self) -> str: ...

    @property
    def num_frames(self) -> int: ...


Groups = Mapping[str, Sequence[Counted]]


@dataclass(frozen=True, slots=True)
class Acquisition:
    """How a clip was taken, as far as it can be seen after de-identification.

    Args:
        size: rows x columns of the picture.
        mm_per_pixel: along the rows, None where unknown.
        sector: ``fan`` with a geometry, ``outline`` without, ``none``.
        shape: opening and curvature of the fan in steps, for comparison.
    """

    size: str
    num_frames: int
    frame_time_ms: float | None
    mm_per_pixel: float | None
    sector: str
    shape: str


def read_acquisitions(
    store: SiteStore, manifest: DatasetManifest, advance: Advance
) -> list[Acquisition]:
    """Look at the head of every stored clip, one at a time, in the manifest's order.

    Raises:
        EchoFedError: CHECKPOINT_CORRUPT where a clip is missing or damaged.
    """
    found = []
    for record in manifest.clips:
        found.append(_acquisition(store.facts(manifest.id, record)))
        advance(1, "")
    return found


def describe(
    manifest: DatasetManifest,
    acquisitions: Sequence[Acquisition],
    *,
    minimum: int,
    waiting: Sequence[Counted] = (),
) -> dict[str, Any]:
    """The data sheet as one document.

    Args:
        manifest: of the dataset.
        acquisitions: of its clips, in the same order.
        minimum: counts of fewer patients are hidden.
        waiting: clips that were held back from it until a person decides.
    """
    clips = manifest.clips
    labels = _labels(manifest, minimum)
    return {
        "dataset": manifest.id,
        "site": manifest.site,
        "origin": manifest.origin,
        "source": manifest.source,
        "created": manifest.created,
        "licence": manifest.licence,
        "purpose": manifest.purpose,
        "kept_pixels": manifest.kept_pixels,
        "ontology_version": manifest.ontology_version,
        "content_sha256": manifest.content_hash(),
        "minimum_patients": minimum,
        "total": count_groups({"": clips}, minimum)[""],
        "splits": count_groups({s: [c for c in clips if c.split == s] for s in SPLITS}, minimum),
        "labels": labels,
        "views": _views(manifest, labels, minimum),
        "annotations": _by_fact(clips, [", ".join(c.structures[1:]) for c in clips], minimum),
        "picture_sizes": _by_fact(clips, [a.size for a in acquisitions], minimum),
        "sectors": _by_fact(clips, [a.sector for a in acquisitions], minimum),
        "fan_shapes": _by_fact(clips, [a.shape for a in acquisitions], minimum),
        "frames_per_clip": _spread([a.num_frames for a in acquisitions]),
        "frame_time_ms": _spread([a.frame_time_ms for a in acquisitions]),
        "mm_per_pixel": _spread([a.mm_per_pixel for a in acquisitions]),
        "labels_not_judged": _rare_labels(clips, minimum),
        "waiting_for_review": count_groups({"": waiting}, minimum)[""],
        "possible_shortcuts": _shortcuts(manifest, acquisitions, minimum),
    }


def count_groups(groups: Groups, minimum: int) -> dict[str, dict[str, Any]]:
    """Patients, clips and frames of each group; small ones are hidden with what tells them.

    The hidden groups together hold at least ``minimum`` patients and are two or more, unless all
    are hidden: else the total would give them away. A group without any patient is no secret.
    """
    patients = {name: len({clip.patient for clip in clips}) for name, clips in groups.items()}
    small = {name for name, count in patients.items() if 0 < count < minimum}
    hidden = set(small)
    others = sorted(
        (name for name, count in patients.items() if count >= minimum), key=lambda n: patients[n]
    )
    while small and others and (len(hidden) < 2 or sum(patients[n] for n in hidden) < minimum):
        hidden.add(others.pop(0))
    return {
        name: {
            "patients": f"<{minimum}" if name in small else WITHHELD,
            "clips": None,
            "frames": None,
        }
        if name in hidden
        else {
            "patients": patients[name],
            "clips": len(clips),
            "frames": sum(clip.num_frames for clip in clips),
        }
        for name, clips in groups.items()
    }


def _labels(manifest: DatasetManifest, minimum: int) -> dict[str, dict[str, Any]]:
    """Counts by label, with the views it stands for; the empty label is that of unlabelled clips.

    A word of the label map that no clip has counts as zero.
    """
    by_label: dict[str, list[ClipRecord]] = {label: [] for label in sorted(manifest.labels)}
    for clip in manifest.clips:
        by_label.setdefault(clip.label, []).append(clip)
    counted = count_groups(by_label, minimum)
    return {
        label: {**counts, "views": list(manifest.labels.get(label, ()))}
        for label, counts in counted.items()
    }


def _views(
    manifest: DatasetManifest, labels: Mapping[str, dict[str, Any]], minimum: int
) -> dict[str, dict[str, Any]]:
    """Counts by view, in union order; a clip of a coarse label counts for each of its views.

    A view to which a hidden label belongs is hidden too, so that views tell no more than labels.
    """
    counted = {}
    for view in load_ontology().order({view for row in labels.values() for view in row["views"]}):
        own = {label for label, row in labels.items() if view in row["views"]}
        clips = [clip for clip in manifest.clips if clip.label in own]
        row = count_groups({view: clips}, minimum)[view]
        if row["clips"] is not None and any(labels[label]["clips"] is None for label in own):
            row = _WITHHELD_ROW
        counted[view] = row
    return counted


def _by_fact(
    clips: Sequence[ClipRecord], values: Sequence[str], minimum: int
) -> dict[str, dict[str, Any]]:
    """Counts by a fact's values, commonest first; the rare ones are counted together."""
    ranked = [value for value, _ in Counter(values).most_common()]
    rare = set(ranked[_MAX_GROUPS:])
    groups: dict[str, list[ClipRecord]] = {value: [] for value in ranked[:_MAX_GROUPS]}
    for clip, value in zip(clips, values, strict=True):
        groups.setdefault(_OTHERS if value in rare else value, []).append(clip)
    return count_groups(groups, minimum)


def _spread(numbers: Sequence[float | None]) -> dict[str, float] | None:
    """Least, middle and greatest of the known values and the share that is known."""
    known = [number for number in numbers if number is not None]
    if not known:
        return None
    return {
        "least": float(min(known)),
        "middle": float(np.median(known)),
        "greatest": float(max(known)),
        "share_known": len(known) / len(numbers),
    }


def _rare_labels(clips: Sequence[ClipRecord], minimum: int) -> list[str]:
    """Labels of too few patients to tell a shortcut from chance."""
    pairs = {(clip.label, clip.patient) for clip in clips if clip.label}
    counts = Counter(label for label, _ in pairs)
    return sorted(label for label, count in counts.items() if count < minimum)


def _shortcuts(
    manifest: DatasetManifest, acquisitions: Sequence[Acquisition], minimum: int
) -> list[dict[str, Any]]:
    """Of the labelled clips, the labels that facts of acquisition give away."""
    chosen = [
        (clip, how) for clip, how in zip(manifest.clips, acquisitions, strict=True) if clip.label
    ]
    hows = [how for _, how in chosen]
    facts = {
        "picture size": [how.size for how in hows],
        "number of frames": levels_of([how.num_frames for how in hows], "frames"),
        "frame time": levels_of([how.frame_time_ms for how in hows], "ms"),
        "pixel spacing": levels_of([how.mm_per_pixel for how in hows], "mm"),
        "shape of the sector": [how.shape for how in hows],
    }
    found = find_shortcuts(
        facts,
        [clip.label for clip, _ in chosen],
        [clip.patient for clip, _ in chosen],
        minimum=minimum,
        generator=np.random.default_rng(_SHUFFLE_SEED),
    )
    return [
        {name: round(v, 2) if isinstance(v, float) else v for name, v in asdict(shortcut).items()}
        for shortcut in found
    ]


def _acquisition(clip: ClipFacts) -> Acquisition:
    num_frames, rows, columns = clip.size_THW
    spacing = clip.mm_per_pixel[0] if clip.mm_per_pixel else None
    sector = "none" if not clip.has_mask else "outline" if clip.fan is None else "fan"
    return Acquisition(
        size=f"{rows}x{columns}",
        num_frames=num_frames,
        frame_time_ms=clip.frame_time_ms,
        mm_per_pixel=spacing,
        sector=sector,
        shape=_shape(clip),
    )


def _shape(clip: ClipFacts) -> str:
    if clip.fan is None:
        return UNKNOWN
    opening = round((clip.fan.angle_max_deg - clip.fan.angle_min_deg) / 10) * 10
    curved = round(clip.fan.radius_min_px / clip.fan.radius_max_px * 10) / 10
    return f"{opening} deg wide, near/far {curved:.1f}"
