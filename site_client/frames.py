"""Frames of a site's datasets in memory: grey squares of the network's size with labels and splits.

The whole stored picture is squeezed to a square, as the papers' 112x112 frames are: a crop to the
sector would remove the background that BackMix needs.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.echo.label_sets import named_views, possible_views
from shared.echo.manifest import SPLITS, ClipRecord, DatasetManifest, Split
from shared.errors import Code, EchoFedError
from site_client.augment.geometry import MaskedFrames
from site_client.clip_file import StoredClip
from site_client.store import SiteStore

Number = TypeVar("Number", bound=np.integer)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A dataset's words.

    Args:
        dataset_hash: content hash of the manifest.
        labels: in sorted order; ``label_N`` of a frame set indexes them.
        label_views: views of each label.
        annotated, never_images, folds: the site's other views, as in ``LabelMap``; of the folds
            those into a label that occurs.
    """

    dataset: str
    dataset_hash: str
    labels: tuple[str, ...]
    label_views: tuple[tuple[str, ...], ...]
    annotated: tuple[str, ...]
    never_images: tuple[str, ...]
    folds: Mapping[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class FrameSet:
    """Supervised frames of one or several datasets, sorted by dataset, clip key and time.

    Args:
        pixels_NHW: uint8.
        clip_N: index into the clips K.
        time_N: index of the frame in its clip.
        label_N: index into the vocabulary of the frame's dataset.
        split_N: place in ``SPLITS``.
        patient_N: number of the patient, counted over all datasets.
        dataset_N: index into ``vocabularies``.
        mask_KHW: sector of each clip; all True where it has none.
        has_mask_K: whether a clip has a sector mask.
        clip_keys: pseudonym of each clip.
    """

    pixels_NHW: NDArray[np.uint8]
    clip_N: NDArray[np.int32]
    time_N: NDArray[np.int32]
    label_N: NDArray[np.int16]
    split_N: NDArray[np.int8]
    patient_N: NDArray[np.int32]
    dataset_N: NDArray[np.int8]
    mask_KHW: NDArray[np.bool_]
    has_mask_K: NDArray[np.bool_]
    clip_keys: tuple[str, ...]
    vocabularies: tuple[Vocabulary, ...]

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.pixels_NHW)

    def of_split(self, split: Split) -> "FrameSet":
        """The frames of one split."""
        return self.take(np.flatnonzero(self.split_N == SPLITS.index(split)))

    def take(self, place_N: NDArray[np.integer]) -> "FrameSet":
        """Some frames, in the order given; clips stay numbered as they are."""
        by_frame = [field.name for field in fields(self) if field.name.endswith(("_N", "_NHW"))]
        return replace(self, **{name: getattr(self, name)[place_N] for name in by_frame})

    def with_pixels(self, pixels_NHW: NDArray[np.uint8]) -> "FrameSet":
        """The same frames showing something else."""
        return replace(self, pixels_NHW=pixels_NHW)

    def masked_frames(self, place_N: NDArray[np.integer]) -> MaskedFrames:
        """Some frames with their sectors as tensors; an unmasked clip counts as all sector."""
        pixels_NHW = torch.from_numpy(self.pixels_NHW[place_N])
        mask_NHW = torch.from_numpy(self.mask_KHW[self.clip_N[place_N]])
        return MaskedFrames(pixels_NHW[:, None].float(), mask_NHW[:, None])

    def allowed_views(self, views: Sequence[str]) -> NDArray[np.bool_]:
        """For each frame which of the views it may show by its label (N, C)."""
        return self._by_label(possible_views, views)

    def named_views(self, views: Sequence[str]) -> NDArray[np.bool_]:
        """For each frame which of the views its label names (N, C)."""
        return self._by_label(named_views, views)

    def _by_label(
        self,
        table: Callable[[Vocabulary, Sequence[str]], NDArray[np.bool_]],
        views: Sequence[str],
    ) -> NDArray[np.bool_]:
        found_NC = np.zeros((len(self), len(views)), dtype=np.bool_)
        for place, vocabulary in enumerate(self.vocabularies):
            here_N = self.dataset_N == place
            found_NC[here_N] = table(vocabulary, views)[self.label_N[here_N]]
        return found_NC


def load_frames(
    store: SiteStore,
    datasets: Sequence[str],
    *,
    image_size: int,
    splits: Sequence[Split] = SPLITS,
    advance: Callable[[int, str], None] | None = None,
) -> FrameSet:
    """Read, squeeze and index the labelled frames of datasets.

    Clips without a label, and those whose label says nothing, are left out.

    Args:
        store: the site's.
        datasets: ids.
        image_size: rows and columns of the result.
        splits: which to read.
        advance: told after each clip.

    Raises:
        EchoFedError: DATASET_UNKNOWN, CHECKPOINT_CORRUPT, or FRAMES_MISSING naming the datasets.
    """
    manifests = [store.manifest(name) for name in datasets]
    chosen = [
        (place, record)
        for place, manifest in enumerate(manifests)
        for record in _supervised_clips(manifest, splits)
    ]
    if not chosen:
        raise EchoFedError(
            Code.FRAMES_MISSING,
            f"no labelled frame of {', '.join(datasets)} is in {' or '.join(splits)}",
            "ingest more patients or change the labels, the label map or the split fractions",
        )
    num_frames = sum(record.num_frames for _, record in chosen)
    pixels_NHW = np.empty((num_frames, image_size, image_size), dtype=np.uint8)
    mask_KHW = np.ones((len(chosen), image_size, image_size), dtype=np.bool_)
    begin = 0
    for clip, (place, record) in enumerate(chosen):
        stored = _read_clip(store, manifests[place].id, record)
        end = begin + record.num_frames
        pixels_NHW[begin:end] = squeeze_pixels(stored.pixels_THW, image_size)
        if stored.mask_HW is not None:
            mask_KHW[clip] = squeeze_mask(stored.mask_HW, image_size)
        begin = end
        if advance is not None:
            advance(1, "")
    return _index(pixels_NHW, mask_KHW, chosen, [_vocabulary(m) for m in manifests])


def squeeze_pixels(pixels_THW: NDArray[np.uint8], image_size: int) -> NDArray[np.uint8]:
    """Resize frames to a square, bilinear with antialiasing."""
    images_T1HW = torch.from_numpy(np.ascontiguousarray(pixels_THW))[:, None]
    resized: NDArray[np.uint8] = _resize(images_T1HW, image_size)[:, 0].numpy()
    return resized


def squeeze_mask(mask_HW: NDArray[np.bool_], image_size: int) -> NDArray[np.bool_]:
    """Resize a sector; a pixel belongs to it if at least half of it does."""
    shares_11HW = _resize(torch.from_numpy(mask_HW)[None, None].float(), image_size)
    resized: NDArray[np.bool_] = (shares_11HW[0, 0] >= 0.5).numpy()
    return resized


def require_trainable(frames: FrameSet, views: Sequence[str]) -> None:
    """Check that an expert can learn from the frames.

    Raises:
        EchoFedError: FRAMES_MISSING for a split without frames, ONE_CLASS_ONLY where all training
            frames say the same.
    """
    names = ", ".join(vocabulary.dataset for vocabulary in frames.vocabularies)
    for split in ("train", "val"):
        if not (frames.split_N == SPLITS.index(split)).any():
            raise EchoFedError(
                Code.FRAMES_MISSING,
                f"{names} has no labelled frame in the {split} split",
                "add patients, or raise ingest.val_fraction and ingest again",
            )
    train = frames.of_split("train")
    if len(np.unique(train.allowed_views(views), axis=0)) < 2:
        raise EchoFedError(
            Code.ONE_CLASS_ONLY,
            f"all training frames of {names} have the same label",
            "a view classifier needs at least two; add clips of another view or map labels apart",
        )


def _read_clip(store: SiteStore, dataset: str, record: ClipRecord) -> StoredClip:
    stored = store.clip(dataset, record)
    if len(stored.pixels_THW) != record.num_frames:
        raise EchoFedError(
            Code.CHECKPOINT_CORRUPT,
            f"clip {record.key} of {dataset} has {len(stored.pixels_THW)} frames, "
            f"its manifest says {record.num_frames}",
            "ingest the dataset again",
        )
    return stored


def _supervised_clips(manifest: DatasetManifest, splits: Sequence[Split]) -> list[ClipRecord]:
    clips = [clip for split in splits for clip in manifest.of_split(split)]
    label_map = manifest.label_map()
    return sorted(
        (clip for clip in clips if label_map.views_of(clip.label)), key=lambda clip: clip.key
    )


def _vocabulary(manifest: DatasetManifest) -> Vocabulary:
    labels = tuple(sorted(manifest.labels))
    views = tuple(tuple(manifest.labels[label]) for label in labels)
    return Vocabulary(
        manifest.id,
        manifest.content_hash(),
        labels,
        views,
        annotated=manifest.annotated,
        never_images=manifest.never_images,
        folds={view: label for view, label in manifest.folds.items() if label in labels},
    )


def _index(
    pixels_NHW: NDArray[np.uint8],
    mask_KHW: NDArray[np.bool_],
    chosen: Sequence[tuple[int, ClipRecord]],
    vocabularies: Sequence[Vocabulary],
) -> FrameSet:
    lengths = [record.num_frames for _, record in chosen]
    patients = {key: n for n, key in enumerate(sorted({r.patient for _, r in chosen}))}

    def spread(values: Iterable[int], dtype: type[Number]) -> NDArray[Number]:
        return np.repeat(np.asarray(list(values), dtype=dtype), lengths)

    return FrameSet(
        pixels_NHW=pixels_NHW,
        clip_N=spread(range(len(chosen)), np.int32),
        time_N=np.concatenate([np.arange(n, dtype=np.int32) for n in lengths]),
        label_N=spread([vocabularies[p].labels.index(r.label) for p, r in chosen], np.int16),
        split_N=spread([SPLITS.index(r.split) for _, r in chosen], np.int8),
        patient_N=spread([patients[r.patient] for _, r in chosen], np.int32),
        dataset_N=spread([place for place, _ in chosen], np.int8),
        mask_KHW=mask_KHW,
        has_mask_K=np.array([record.has_mask for _, record in chosen]),
        clip_keys=tuple(record.key for _, record in chosen),
        vocabularies=tuple(vocabularies),
    )


def _resize(images_T1HW: Tensor, image_size: int) -> Tensor:
    return torch.nn.functional.interpolate(
        images_T1HW, size=(image_size, image_size), mode="bilinear", antialias=True
    )
