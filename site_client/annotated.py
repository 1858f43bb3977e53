"""Annotated frames of a site's datasets in memory: squares of the network's size with their labels.

Pixels are square in mm; the picture lies in the upper left corner of its square, the rest is black.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray

from shared.echo.annotation import Annotation
from shared.echo.manifest import (
    SPLITS,
    ClipRecord,
    DatasetManifest,
    Split,
    require_patients_apart,
)
from shared.echo.mask import STRUCTURES
from shared.errors import Code, EchoFedError
from shared.segmentation.fit import fitted_size, fitted_spacing, resized
from site_client.clip_file import StoredClip
from site_client.store import SiteStore

LEARNT_SPLITS: tuple[Split, ...] = ("train", "val")
"""What a segmenter learns from and is judged by in training."""


@dataclass(frozen=True, slots=True, eq=False)
class AnnotatedFrames:
    """Frames with label maps, sorted by dataset, clip key and time; S is the side of the squares.

    Args:
        pixels_NSS: uint8 grey, not yet z-scored.
        labels_NSS: uint8, places in ``structures``.
        sector_NSS: True inside the sector; the whole picture where none is known.
        has_sector_N: whether one is known.
        size_N2: rows and columns of the picture in its square.
        mm_per_pixel_N2: spacing of (rows, columns), NaN where it is unknown.
        annotated_NS: which structures the annotation names.
        landmarks_xy_px_N32: ``LANDMARKS`` as annotated, NaN where unknown.
        split_N: place in ``SPLITS``.
        clip_N, time_N: number of the clip, and the frame's index in it.
        patient_N: number of the patient, counted over all datasets.
        dataset_N: number of the dataset in ``datasets``.
        view_N: place in ``views``.
        structures: background first, then all that any annotation names, in the house's order.
    """

    pixels_NSS: NDArray[np.uint8]
    labels_NSS: NDArray[np.uint8]
    sector_NSS: NDArray[np.bool_]
    has_sector_N: NDArray[np.bool_]
    size_N2: NDArray[np.int32]
    mm_per_pixel_N2: NDArray[np.float64]
    annotated_NS: NDArray[np.bool_]
    landmarks_xy_px_N32: NDArray[np.float64]
    split_N: NDArray[np.int8]
    clip_N: NDArray[np.int32]
    time_N: NDArray[np.int32]
    patient_N: NDArray[np.int32]
    dataset_N: NDArray[np.int8]
    view_N: NDArray[np.int16]
    datasets: tuple[str, ...]
    views: tuple[str, ...]
    structures: tuple[str, ...]

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.pixels_NSS)

    @property
    def side(self) -> int:
        """Of the squares, in pixels."""
        return int(self.pixels_NSS.shape[1])

    def of_split(self, split: Split) -> "AnnotatedFrames":
        """The frames of one split."""
        return self.take(np.flatnonzero(self.split_N == SPLITS.index(split)))

    def take(self, place_N: NDArray[np.integer]) -> "AnnotatedFrames":
        """Some frames, in the order given."""
        by_frame = [field.name for field in fields(self) if "_N" in field.name]
        return replace(self, **{name: getattr(self, name)[place_N] for name in by_frame})


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which annotated frames to read.

    Args:
        image_size: side of the squares.
        structures: which to tell apart; empty for all that any annotation names.
        views: of which clips are wanted; empty for all.
        frames_per_clip: annotated frames of a clip, spread evenly; 0 for all.
        splits: which to read.
        elsewhere: structures that others annotated and that count as if one here had.
    """

    image_size: int
    structures: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    frames_per_clip: int = 0
    splits: tuple[Split, ...] = SPLITS
    elsewhere: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Chosen:
    """A clip to read."""

    record: ClipRecord
    dataset: int
    view: str


def load_annotated(
    store: SiteStore,
    datasets: Sequence[str],
    wanted: Wanted,
    *,
    advance: Callable[[int, str], None] | None = None,
) -> AnnotatedFrames:
    """Read the annotated clips of datasets whose label names one view.

    Args:
        store: the site's.
        datasets: ids.
        wanted: which frames, and how large.
        advance: told after each clip.

    Raises:
        EchoFedError: DATASET_UNKNOWN, CHECKPOINT_CORRUPT, NAME_UNKNOWN for structures that nobody
            annotated, VIEW_UNKNOWN for views that no clip shows, PATIENT_IN_TWO_SPLITS where
            datasets split a patient differently, or FRAMES_MISSING naming the datasets.
    """
    manifests = [store.manifest(name) for name in datasets]
    require_patients_apart(clip for one in manifests for clip, _ in annotated_clips(one, SPLITS))
    chosen = [
        _Chosen(record, place, view)
        for place, manifest in enumerate(manifests)
        for record, view in annotated_clips(manifest, wanted.splits)
        if not wanted.views or view in wanted.views
    ]
    if not chosen:
        raise EchoFedError(
            Code.FRAMES_MISSING,
            f"no clip of {', '.join(datasets)} has masks and one view",
            "ingest the dataset again with --masks, and labels that name one view each",
        )
    names = _structures(chosen, wanted)
    shown = tuple(sorted({one.view for one in chosen}))
    _expect_shown(wanted.views, shown)
    parts: dict[str, list[NDArray[np.generic]]] = {}
    patients = {key: n for n, key in enumerate(sorted({one.record.patient for one in chosen}))}
    for number, one in enumerate(chosen):
        clip = store.clip(manifests[one.dataset].id, one.record)
        told = {
            "clip_N": number,
            "split_N": SPLITS.index(one.record.split),
            "patient_N": patients[one.record.patient],
            "dataset_N": one.dataset,
            "view_N": shown.index(one.view),
        }
        for name, part in _frames_of(clip, told, names, wanted).items():
            parts.setdefault(name, []).append(part)
        if advance is not None:
            advance(1, "")
    joined = {name: np.concatenate(part) for name, part in parts.items()}
    dtypes = {"clip_N": np.int32, "split_N": np.int8, "patient_N": np.int32, "dataset_N": np.int8}
    for name, dtype in (dtypes | {"view_N": np.int16, "time_N": np.int32}).items():
        joined[name] = joined[name].astype(dtype)
    return AnnotatedFrames(
        **joined,
        datasets=tuple(manifest.id for manifest in manifests), views=shown, structures=names,
    )  # fmt: skip


def annotated_clips(
    manifest: DatasetManifest, splits: Sequence[Split]
) -> Iterator[tuple[ClipRecord, str]]:
    """Clips with masks, each with its view; a label of several views says nothing here."""
    label_map = manifest.label_map()
    clips = [clip for split in splits for clip in manifest.of_split(split) if clip.structures]
    for clip in sorted(clips, key=lambda clip: clip.key):
        views = label_map.views_of(clip.label)
        if len(views) == 1:
            yield clip, next(iter(views))


def _expect_shown(wanted: Sequence[str], shown: Sequence[str]) -> None:
    missing = [view for view in wanted if view not in shown]
    if missing:
        raise EchoFedError(
            Code.VIEW_UNKNOWN,
            f"no clip with masks shows {', '.join(missing)}",
            f"there are {', '.join(shown)}",
        )


def _structures(chosen: Sequence[_Chosen], wanted: Wanted) -> tuple[str, ...]:
    known = {name for one in chosen for name in one.record.structures} | set(wanted.elsewhere)
    missing = [name for name in wanted.structures if name not in known]
    if missing:
        raise EchoFedError(
            Code.NAME_UNKNOWN,
            f"nobody annotated {', '.join(missing)}",
            f"annotated are {', '.join(sorted(known - {STRUCTURES[0]}))}",
        )
    kept = {STRUCTURES[0], *(wanted.structures or known)}
    return tuple(name for name in STRUCTURES if name in kept)


def _frames_of(
    clip: StoredClip, told: dict[str, int], names: tuple[str, ...], wanted: Wanted
) -> dict[str, NDArray[np.generic]]:
    """The fields of one clip's annotated frames."""
    annotation = clip.annotation
    assert annotation is not None
    side = wanted.image_size
    kept = _spread(len(annotation.frames), wanted.frames_per_clip)
    times = np.array(annotation.frames)[kept]
    size_HW = clip.pixels_THW.shape[1:]
    fitted_HW = fitted_size(size_HW, clip.mm_per_pixel, side)
    scale_xy = np.array([fitted_HW[1] / size_HW[1], fitted_HW[0] / size_HW[0]])
    num = len(kept)
    places = np.full((num, 3, 2), np.nan)
    if annotation.landmarks_xy_px_F32 is not None:
        places = (annotation.landmarks_xy_px_F32[kept] + 0.5) * scale_xy - 0.5
    spacing = (np.nan, np.nan)
    if clip.mm_per_pixel is not None:
        spacing = fitted_spacing(size_HW, clip.mm_per_pixel, fitted_HW)
    sector_HW = np.ones(size_HW, bool) if clip.mask_HW is None else clip.mask_HW
    grey_NHW = resized(clip.pixels_THW[times], fitted_HW)
    return {
        "pixels_NSS": _squared(np.rint(grey_NHW).astype(np.uint8), side),
        "labels_NSS": _squared(_nearest(_renamed(annotation, names)[kept], fitted_HW), side),
        "sector_NSS": _squared(_nearest(sector_HW[None], fitted_HW).repeat(num, 0), side),
        "has_sector_N": np.full(num, clip.mask_HW is not None),
        "size_N2": np.tile(np.array(fitted_HW, np.int32), (num, 1)),
        "mm_per_pixel_N2": np.tile(spacing, (num, 1)),
        "annotated_NS": np.tile([name in annotation.structures for name in names], (num, 1)),
        "landmarks_xy_px_N32": places,
        "time_N": times,
        **{name: np.full(num, value) for name, value in told.items()},
    }


def _spread(num: int, at_most: int) -> NDArray[np.int64]:
    """Places of so many of ``num`` frames, first and last among them."""
    if not at_most or num <= at_most:
        return np.arange(num)
    return np.unique(np.rint(np.linspace(0, num - 1, at_most)).astype(np.int64))


def _renamed(annotation: Annotation, names: tuple[str, ...]) -> NDArray[np.uint8]:
    """Label maps in another order of structures; what is not wanted joins the background."""
    values = [names.index(name) if name in names else 0 for name in annotation.structures]
    return np.array(values, np.uint8)[annotation.labels_FHW]


def _nearest(maps_NHW: NDArray[np.generic], fitted_HW: tuple[int, int]) -> NDArray[np.generic]:
    """Maps of another size by the nearest pixel."""
    tensor = torch.from_numpy(maps_NHW.astype(np.uint8))[:, None]
    out = torch.nn.functional.interpolate(tensor, size=fitted_HW, mode="nearest-exact")
    return out[:, 0].numpy().astype(maps_NHW.dtype)


def _squared(maps_NHW: NDArray[np.generic], side: int) -> NDArray[np.generic]:
    """Maps in the upper left corner of squares of zeros."""
    out = np.zeros((len(maps_NHW), side, side), maps_NHW.dtype)
    out[:, : maps_NHW.shape[1], : maps_NHW.shape[2]] = maps_NHW
    return out
