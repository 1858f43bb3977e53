"""Train one expert on a site's own frames: settings in, card and weights out."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from shared.echo.expert import ExpertCard, load_expert, save_checkpoint
from shared.echo.manifest import DatasetManifest
from shared.echo.ontology import load_ontology
from shared.echo.origin import mixed_origin
from shared.errors import Code, EchoFedError
from shared.evidence.discrepancy import REFERENCE_PREFIX
from shared.files import sha256_hex
from shared.models.adapter import AdaptedTrunk, build_adapter
from shared.models.backbone import build_expert, copy_common_weights, feature_width, unpack_tensors
from shared.models.expert import FrozenExpert, pack_adapter, pack_expert
from shared.models.loss import PresentViewsLoss, label_set_loss
from shared.seeding import derive_seed
from shared.settings import dump_settings, flatten, hash_settings
from site_client.augment.backmix import LossWeights, choose_mixed, weigh_losses
from site_client.augment.geometry import Reach
from site_client.frames import FrameSet, load_frames, require_trainable
from site_client.settings import ExpertSettings
from site_client.store import SiteStore
from site_client.training.batches import Material, ViewsLoss, batch_loss, plain_batches
from site_client.training.checkpoint import Checkpoint, Course, run_name
from site_client.training.loop import Objective, Plan, Step, train
from site_client.training.validation import Judge

_HASH_LETTERS = 8
_REFERENCE_BATCH = 64
Parent = tuple[ExpertCard, bytes]


def train_expert(
    store: SiteStore,
    datasets: Sequence[str],
    settings: ExpertSettings,
    *,
    site: str,
    now: datetime,
    report: Callable[[Step], None],
) -> ExpertCard:
    """Train an expert on one dataset of the site, or on several pooled, and store it.

    A run that was killed goes on where it stood when the same call is made again.

    Args:
        store: the site's.
        datasets: ids, at least one.
        settings: of the training.
        site: site code.
        now: time that the card is dated with.
        report: told after each step.

    Raises:
        EchoFedError: DATASET_UNKNOWN, EXPERT_UNKNOWN, NAME_UNKNOWN, CONFIG_INVALID, FRAMES_MISSING,
            ONE_CLASS_ONLY, SECTOR_EMPTY, FEATURES_NOT_FINITE, DISK_FULL.
    """
    cpu_began = time.process_time()
    manifests = [store.manifest(name) for name in datasets]
    begin = settings.trunk or settings.start_from
    parent = load_expert(store.require_expert(begin)) if begin else None
    views = head_views(manifests, settings, parent)
    frames = load_frames(store, datasets, image_size=settings.image_size, splits=("train", "val"))
    require_trainable(frames, views)
    first = parent[0].weights_sha256 if parent else ""
    checkpoint = Checkpoint(store.root / "runs" / run_name("train", settings, manifests, first))
    with numeric_threads(settings.threads):
        model = _first_model(settings, views, parent)
        course = _train(model, frames, views, settings, checkpoint, report)
        reference = plain_batches(frames.of_split("train"), _REFERENCE_BATCH)
        if isinstance(model, AdaptedTrunk):
            weights, layers = pack_adapter(model, reference)
        else:
            weights, layers = pack_expert(model, reference)
    metrics = _metrics(course, cpu_seconds=time.process_time() - cpu_began)
    sha256 = sha256_hex(weights)
    name = manifests[0].id if len(manifests) == 1 else "pool"
    card = ExpertCard(
        id=f"{site}-{name}-{sha256[:_HASH_LETTERS]}",
        site=site,
        datasets=tuple(manifest.id for manifest in manifests),
        dataset_hashes=tuple(manifest.content_hash() for manifest in manifests),
        origin=mixed_origin(manifest.origin for manifest in manifests),
        backbone=settings.backbone,
        image_size=settings.image_size,
        views=views,
        feature_width=feature_width(model),
        layers=layers,
        weights_sha256=sha256,
        parent=parent[0].id if parent else "",
        seed=settings.seed,
        settings_hash=hash_settings(settings),
        settings=flatten(dump_settings(settings)),
        metrics=metrics,
        created=now.isoformat(timespec="seconds"),
        trunk=settings.trunk,
        trunk_sha256=parent[0].weights_sha256 if parent and settings.trunk else "",
    )
    save_checkpoint(store.expert_folder(card.id), card, weights)
    checkpoint.remove()
    return card


def head_views(
    manifests: Sequence[DatasetManifest], settings: ExpertSettings, parent: Parent | None
) -> tuple[str, ...]:
    """The head: all views of the label maps; in sequential fine-tuning the parent's views too.

    Raises:
        EchoFedError: CONFIG_INVALID where the parent cannot be a start.
    """
    views = [view for manifest in manifests for view in manifest.label_map().views()]
    if parent is not None:
        _require_fit(parent[0], settings)
        if settings.restrict_to_present and not settings.trunk:
            views += parent[0].views
    return load_ontology().order(views)


@contextmanager
def numeric_threads(num: int) -> Iterator[None]:
    """Give the numeric library so many threads within the block, at most one a core."""
    before = torch.get_num_threads()
    torch.set_num_threads(min(num, os.cpu_count() or 1))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _train(
    model: nn.Module,
    frames: FrameSet,
    views: tuple[str, ...],
    settings: ExpertSettings,
    checkpoint: Checkpoint,
    report: Callable[[Step], None],
) -> Course:
    material = _material(frames.of_split("train"), views, settings)
    loss_fn: ViewsLoss = label_set_loss
    judged = frames.of_split("val")
    if settings.restrict_to_present:
        present_C = material.frames.named_views(views).any(axis=0)
        loss_fn = PresentViewsLoss(torch.from_numpy(present_C))
        judged = judged.take(np.flatnonzero(judged.allowed_views(views)[:, present_C].any(axis=1)))
    plan = Plan(
        epochs=settings.epochs,
        num_batches=material.num_batches,
        patience=settings.patience,
        learning_rate=settings.learning_rate,
        schedule=settings.schedule,
        seed=settings.seed,
    )
    objective = Objective(
        material.batches, partial(batch_loss, loss_fn), Judge(judged, views, loss_fn)
    )
    return train(model, objective, plan, checkpoint, report)


def _material(train: FrameSet, views: tuple[str, ...], settings: ExpertSettings) -> Material:
    backmix = settings.backmix
    is_mixed_N, weights = np.zeros(len(train), dtype=np.bool_), LossWeights(1.0, 1.0)
    if backmix.enabled:
        is_mixed_N = choose_mixed(train.has_mask_K[train.clip_N], backmix.mask_fraction)
        weights = weigh_losses(is_mixed_N, backmix.loss_lambda)
    return Material(
        frames=train,
        allowed_NC=train.allowed_views(views),
        is_mixed_N=is_mixed_N,
        weights=weights,
        reach=Reach(settings.rotation_deg, settings.flip_probability, settings.brightness),
        batch_size=settings.batch_size,
        seed=settings.seed,
    )


def _first_model(
    settings: ExpertSettings, views: tuple[str, ...], parent: Parent | None
) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(settings.seed, "weights"))
        if parent is not None and settings.trunk:
            encoder = FrozenExpert(*parent).encoder
            return build_adapter(encoder, len(views), image_size=settings.image_size)
        model = build_expert(settings.backbone, len(views), image_size=settings.image_size)
    if parent is not None:
        card, weights = parent
        tensors: dict[str, Tensor] = {
            name: tensor
            for name, tensor in unpack_tensors(weights).items()
            if not name.startswith(REFERENCE_PREFIX)
        }
        copy_common_weights(model, views, tensors, card.views)
    return model


def _require_fit(parent: ExpertCard, settings: ExpertSettings) -> None:
    key = "trunk" if settings.trunk else "start_from"
    if parent.trunk:
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"expert.{key}={parent.id} is no full expert, it stands on a trunk itself",
            f"set expert.trunk={parent.trunk}",
        )
    for name, theirs, ours in (
        ("backbone", parent.backbone, settings.backbone),
        ("image_size", parent.image_size, settings.image_size),
    ):
        if theirs != ours:
            raise EchoFedError(
                Code.CONFIG_INVALID,
                f"expert.{key}={parent.id} has {name} {theirs}, expert.{name} is {ours}",
                f"set expert.{name}={theirs}, or name another expert",
            )


def _metrics(course: Course, *, cpu_seconds: float) -> dict[str, float]:
    assert course.best_score is not None
    return {
        "val_balanced_accuracy": course.best_score,
        "val_loss": course.best_loss,
        "best_epoch": float(course.best_epoch),
        "epochs": float(course.epoch),
        "seconds": course.seconds,
        "cpu_seconds": cpu_seconds,
    }
