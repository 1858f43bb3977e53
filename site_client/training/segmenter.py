"""Train one segmenter on a site's own annotated frames: settings in, card and weights out."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from shared.echo.manifest import DatasetManifest
from shared.echo.origin import mixed_origin
from shared.echo.segmenter import SegmenterCard, load_segmenter_files, save_segmenter
from shared.errors import Code, EchoFedError
from shared.files import sha256_hex
from shared.models import SEGMENTERS
from shared.models.backbone import load_weights, pack_tensors, unpack_tensors
from shared.models.contour_loss import LossWeights
from shared.models.drawn import draw_segmenter
from shared.settings import dump_settings, flatten, hash_settings
from site_client.annotated import LEARNT_SPLITS, AnnotatedFrames, Wanted, load_annotated
from site_client.augment.warp import WarpReach
from site_client.settings import SegmenterSettings
from site_client.store import SiteStore
from site_client.training.annotated_batches import AnnotatedMaterial
from site_client.training.checkpoint import Checkpoint, Course, run_name
from site_client.training.expert import numeric_threads
from site_client.training.loop import Objective, Plan, Step, train
from site_client.training.outlines import STRUCTURE, Outlines, outlines_of
from site_client.training.parent import with_parent
from site_client.training.segmenter_judges import (
    BatchLoss,
    ContourJudge,
    MaskJudge,
    contour_batch_loss,
    mask_batch_loss,
)

_HASH_LETTERS = 8
_TRUNK = "trunk."  # what networks of masks and of contours share
Parent = tuple[SegmenterCard, bytes]


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """What a network shall learn, and what it is judged by.

    Args:
        train, val: annotated frames.
        train_outlines, val_outlines: their contours, None where masks are learnt.
    """

    train: AnnotatedFrames
    val: AnnotatedFrames
    train_outlines: Outlines | None = None
    val_outlines: Outlines | None = None

    @property
    def answers(self) -> Literal["masks", "contours"]:
        """What the network gives."""
        return "masks" if self.train_outlines is None else "contours"


def train_segmenter(
    store: SiteStore,
    datasets: Sequence[str],
    settings: SegmenterSettings,
    *,
    site: str,
    now: datetime,
    report: Callable[[Step], None],
) -> SegmenterCard:
    """Train a segmenter on one dataset of the site, or on several pooled, and store it.

    A run that was killed goes on where it stood when the same call is made again.

    Args:
        store: the site's.
        datasets: ids, at least one.
        settings: of the training.
        site: site code.
        now: time that the card is dated with.
        report: told after each step.

    Raises:
        EchoFedError: DATASET_UNKNOWN, NAME_UNKNOWN, CONFIG_INVALID, FRAMES_MISSING,
            LANDMARKS_MISSING, FEATURES_NOT_FINITE, DISK_FULL, CHECKPOINT_CORRUPT.
    """
    cpu_began = time.process_time()
    manifests = [store.manifest(name) for name in datasets]
    parent = None
    if settings.start_from:
        parent = load_segmenter_files(store.require_segmenter(settings.start_from))
    with numeric_threads(settings.threads):
        lesson = prepare_lesson(store, datasets, settings)
        network = first_network(settings, lesson.train.structures, parent)
        first = parent[0].weights_sha256 if parent else ""
        checkpoint = Checkpoint(
            store.root / "runs" / run_name("segment", settings, manifests, first)
        )
        course = learn(network, lesson, settings, checkpoint, report)
        metrics = judge_of(lesson, settings)(network).details
    weights = pack_tensors({name: value.cpu() for name, value in network.state_dict().items()})
    card = segmenter_card(manifests, lesson, settings, weights, site=site, now=now)
    seconds = {"seconds": course.seconds, "cpu_seconds": time.process_time() - cpu_began}
    counts = {"train_frames": float(len(lesson.train)), "best_epoch": float(course.best_epoch)}
    card = replace(card, metrics={**metrics, **counts, **seconds})
    if parent is not None:
        card = with_parent(card, parent[0])
    save_segmenter(store.segmenter_folder(card.id), card, weights)
    checkpoint.remove()
    return card


def prepare_lesson(
    store: SiteStore,
    datasets: Sequence[str],
    settings: SegmenterSettings,
    *,
    elsewhere: Sequence[str] = (),
) -> Lesson:
    """Read the annotated frames of the training and validation patients.

    Args:
        store: the site's.
        datasets: ids.
        settings: of the training.
        elsewhere: structures that others annotated; they are told apart here as well.

    Raises:
        EchoFedError: as ``load_annotated`` and ``outlines_of``; FRAMES_MISSING for a split without
            frames.
    """
    frames = load_annotated(
        store,
        datasets,
        Wanted(
            settings.image_size,
            settings.structures,
            settings.views,
            settings.frames_per_clip,
            splits=LEARNT_SPLITS,
            elsewhere=tuple(elsewhere),
        ),
    )
    train, val = frames.of_split("train"), frames.of_split("val")
    for name, part in (("train", train), ("val", val)):
        if not len(part):
            raise EchoFedError(
                Code.FRAMES_MISSING,
                f"{', '.join(datasets)} has no annotated frame in the {name} split",
                "add patients, or raise ingest.val_fraction and ingest again",
            )
    if SEGMENTERS[settings.network].answers == "masks":
        return Lesson(train, val)
    train, train_outlines, _ = outlines_of(train, settings.num_landmarks)
    val, val_outlines, _ = outlines_of(val, settings.num_landmarks)
    return Lesson(train, val, train_outlines, val_outlines)


def first_network(
    settings: SegmenterSettings, structures: Sequence[str], parent: Parent | None = None
) -> nn.Module:
    """The network before its first step, with the parent's weights where there is one.

    Raises:
        EchoFedError: NAME_UNKNOWN, CONFIG_INVALID for options that no network can have,
            CHECKPOINT_CORRUPT for a parent whose weights do not fit.
    """
    kind = SEGMENTERS[settings.network]
    num_outputs = len(structures) if kind.answers == "masks" else settings.num_landmarks
    options = options_of(settings)
    network = draw_segmenter(settings.network, num_outputs, options, seed=settings.seed)
    if parent is not None:
        load_weights(network, _first_weights(network, *parent))
    return network.to(memory_format=torch.channels_last)


def _first_weights(network: nn.Module, card: SegmenterCard, weights: bytes) -> dict[str, Tensor]:
    """The parent's weights; of one with other outputs the trunk's only, the heads stay as drawn."""
    tensors = unpack_tensors(weights)
    if card.answers == getattr(network, "answers", card.answers):
        return tensors
    trunk = {name: value for name, value in tensors.items() if name.startswith(_TRUNK)}
    heads = {name: v for name, v in network.state_dict().items() if not name.startswith(_TRUNK)}
    return trunk | heads


def options_of(settings: SegmenterSettings) -> dict[str, int]:
    """What the network is built with, beside its outputs."""
    return {"width": settings.width, "depth": settings.depth, "patch": settings.patch}


def learn(
    network: nn.Module,
    lesson: Lesson,
    settings: SegmenterSettings,
    checkpoint: Checkpoint,
    report: Callable[[Step], None],
) -> Course:
    """Train a network in place; the weights of the best validation are left in it."""
    is_mixed_N = lesson.train.has_sector_N & settings.backmix
    material = AnnotatedMaterial(
        lesson.train,
        lesson.train_outlines,
        is_mixed_N if is_mixed_N.sum() > 1 else np.zeros_like(is_mixed_N),
        WarpReach(
            settings.rotation_deg,
            settings.zoom,
            settings.shift,
            settings.brightness,
            settings.gamma,
        ),
        settings.batch_size,
        settings.seed,
    )
    plan = Plan(
        epochs=settings.epochs,
        num_batches=material.num_batches,
        patience=settings.patience,
        learning_rate=settings.learning_rate,
        schedule=settings.schedule,
        seed=settings.seed,
    )
    loss_fn = _loss_of(lesson, settings)
    objective = Objective(material.batches, loss_fn, judge_of(lesson, settings))
    return train(network.to(settings.device), objective, plan, checkpoint, report)


def judge_of(lesson: Lesson, settings: SegmenterSettings) -> MaskJudge | ContourJudge:
    """What a network is judged by: the validation frames."""
    if lesson.val_outlines is None:
        return MaskJudge(lesson.val, settings.device)
    return ContourJudge(lesson.val, lesson.val_outlines, settings.device)


def segmenter_card(
    manifests: Sequence[DatasetManifest],
    lesson: Lesson,
    settings: SegmenterSettings,
    weights: bytes,
    *,
    site: str,
    now: datetime,
) -> SegmenterCard:
    """The card of trained weights, without metrics."""
    sha256 = sha256_hex(weights)
    is_masks = lesson.answers == "masks"
    return SegmenterCard(
        id=f"{site}-{settings.network}-{sha256[:_HASH_LETTERS]}",
        site=site,
        datasets=tuple(manifest.id for manifest in manifests),
        dataset_hashes=tuple(manifest.content_hash() for manifest in manifests),
        origin=mixed_origin(manifest.origin for manifest in manifests),
        answers=lesson.answers,
        network=settings.network,
        options=options_of(settings),
        image_size=settings.image_size,
        structures=lesson.train.structures if is_masks else (STRUCTURE,),
        num_landmarks=0 if is_masks else settings.num_landmarks,
        views=lesson.train.views,
        weights_sha256=sha256,
        parent="",
        seed=settings.seed,
        settings_hash=hash_settings(settings),
        settings=flatten(dump_settings(settings)),
        metrics={},
        created=now.isoformat(timespec="seconds"),
    )


def _loss_of(lesson: Lesson, settings: SegmenterSettings) -> BatchLoss:
    if lesson.answers == "masks":
        return mask_batch_loss(settings.device)
    weights = LossWeights(**settings.contour_loss.model_dump())
    return contour_batch_loss(weights, settings.device)
