"""Score an expert or a fusion on a dataset's split, in the dataset's own vocabulary."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.echo.expert import load_expert, load_fusion
from shared.echo.label_sets import possible_views
from shared.echo.manifest import Split, not_judged_on
from shared.errors import Code, EchoFedError
from shared.metrics import Scores, by_clip, score_labels, vocabulary_log_probabilities
from shared.models.expert import FrozenExpert, Look
from shared.models.fused import FusionOutput
from shared.models.fusion_weights import FusionModel, build_fusion, build_novelty
from shared.models.novelty import Novelty
from site_client.extract import look_at_once
from site_client.frames import FrameSet, load_frames
from site_client.store import SiteStore
from site_client.training.batches import plain_batches

_BATCH = 64  # frames in a forward pass; changes the speed, not the result


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores of one model on one split of a dataset.

    Args:
        clips: a clip is the mean log-probability over its frames.
        id_scores: mean gate weight by expert; empty for a single expert.
    """

    dataset: str
    split: Split
    frames: Scores
    clips: Scores
    id_scores: dict[str, float]

    def document(self) -> dict[str, Any]:
        """Everything as JSON values."""
        return {
            "num_frames": self.frames.num,
            "frames": asdict(self.frames),
            "clips": asdict(self.clips),
            "id_scores": self.id_scores,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Council:
    """A fusion with the experts that it fuses, ready to look.

    Args:
        experts: in the order of the fusion's blocks.
        novelty: what tells whether a frame is like anything that the fusion knows.
    """

    fusion: FusionModel
    experts: tuple[FrozenExpert, ...]
    novelty: Novelty | None = None

    def look(self, batches: Mapping[int, Iterable[Tensor]]) -> list[Look]:
        """What the experts see, in their order; a trunk that several share looks once.

        Args:
            batches: the same frames at every one of ``sizes``.
        """
        looks: dict[str, Look] = {}
        for size in self.sizes():
            experts = [expert for expert in self.experts if expert.card.image_size == size]
            found = look_at_once(experts, batches[size])
            looks |= {e.card.id: look for e, look in zip(experts, found, strict=True)}
        return [looks[expert.card.id] for expert in self.experts]

    @torch.inference_mode()
    def fuse(self, looks: Sequence[Look]) -> FusionOutput:
        """Fuse what the experts see, in their order."""
        fused: FusionOutput = self.fusion(
            [look.features_ND for look in looks],
            [look.logits_NC for look in looks],
            [look.discrepancy_NL for look in looks],
        )
        return fused

    def sizes(self) -> set[int]:
        """Image sizes that the experts ask for."""
        return {expert.card.image_size for expert in self.experts}


def open_expert(store: SiteStore, expert: str) -> FrozenExpert:
    """An expert of the site by id.

    Raises:
        EchoFedError: EXPERT_UNKNOWN, also for its trunk, CHECKPOINT_CORRUPT, CARD_NEWER.
    """
    return open_experts(store, [expert])[0]


def open_experts(store: SiteStore, experts: Sequence[str]) -> tuple[FrozenExpert, ...]:
    """Experts of the site by id; a trunk that several stand on is opened once.

    Raises:
        EchoFedError: EXPERT_UNKNOWN, also for a trunk, CHECKPOINT_CORRUPT, CARD_NEWER.
    """
    opened: dict[str, FrozenExpert] = {}

    def fetch(name: str, *, is_trunk: bool = False) -> FrozenExpert:
        if name not in opened:
            card, weights = load_expert(store.require_expert(name))
            is_here = card.trunk in store.experts() and not is_trunk  # no trunk stands on another
            trunk = fetch(card.trunk, is_trunk=True) if is_here else None
            opened[name] = FrozenExpert(card, weights, trunk)
        return opened[name]

    return tuple(fetch(name) for name in experts)


def open_council(store: SiteStore, fusion: str) -> Council:
    """A fusion of the site with all its experts.

    Raises:
        EchoFedError: FUSION_UNKNOWN, EXPERT_UNKNOWN where one of its experts is not here,
            CHECKPOINT_CORRUPT, CARD_NEWER.
    """
    card, weights = load_fusion(store.require_fusion(fusion))
    experts = open_experts(store, [block.expert for block in card.blocks])
    return Council(build_fusion(card, weights), experts, build_novelty(card, weights))


def evaluate_expert(
    store: SiteStore,
    expert: str,
    dataset: str,
    *,
    split: Split = "test",
    background_only: bool = False,
) -> Evaluation:
    """Score one expert.

    Args:
        store: the site's.
        expert: id.
        dataset: id.
        split: whose frames.
        background_only: blacken the sector, to see what the screen alone gives away; an expert
            that looks at anatomy falls to chance (acceptance test of BackMix).

    Raises:
        EchoFedError: EXPERT_UNKNOWN, DATASET_UNKNOWN, FRAMES_MISSING, SECTOR_EMPTY for a probe
            without masks, ORIGIN_UNFIT for a synthetic dataset, whatever the split.
    """
    _require_imaged(store, dataset)
    opened = open_expert(store, expert)
    size = opened.card.image_size
    frames = load_frames(store, [dataset], image_size=size, splits=(split,))
    if background_only:
        frames = blacken_sector(frames)
    (look,) = look_at_once([opened], plain_batches(frames, _BATCH))
    told_NV = torch.log_softmax(look.logits_NC.double(), dim=1).numpy()
    return _score(frames, told_NV, opened.card.views, split, {})


def judge_fusion(
    store: SiteStore,
    fusion: str,
    dataset: str,
    *,
    split: Split = "test",
    background_only: bool = False,
) -> Evaluation:
    """Score a fusion; see ``evaluate_expert``."""
    _require_imaged(store, dataset)
    council = open_council(store, fusion)
    by_size = {
        size: load_frames(store, [dataset], image_size=size, splits=(split,))
        for size in council.sizes()
    }
    if background_only:
        by_size = {size: blacken_sector(frames) for size, frames in by_size.items()}
    batches = {size: plain_batches(frames, _BATCH) for size, frames in by_size.items()}
    fused = council.fuse(council.look(batches))
    means = fused.id_scores_NE.mean(dim=0)
    id_scores = {
        block.expert: float(mean) for block, mean in zip(council.fusion.blocks, means, strict=True)
    }
    told_NV = fused.log_probabilities_NV.double().numpy()
    return _score(next(iter(by_size.values())), told_NV, council.fusion.views, split, id_scores)


def evaluate_fusion(store: SiteStore, fusion: str, dataset: str) -> dict[str, Any]:
    """Figures of a fusion on the test clips, as they may be reported to the centre."""
    scored = judge_fusion(store, fusion, dataset)
    return {
        "dataset": dataset,
        "fusion": fusion,
        "split": scored.split,
        "level": "clip",
        "id_scores": scored.id_scores,
        **asdict(scored.clips),
    }


def blacken_sector(frames: FrameSet) -> FrameSet:
    """The same frames with nothing but their background.

    Raises:
        EchoFedError: SECTOR_EMPTY where a clip has no mask.
    """
    if not frames.has_mask_K[frames.clip_N].all():
        raise EchoFedError(
            Code.SECTOR_EMPTY,
            "the background-only probe needs a sector mask of every clip",
            "ingest files with a 2-D region",
        )
    return frames.with_pixels(np.where(frames.mask_KHW[frames.clip_N], 0, frames.pixels_NHW))


def _require_imaged(store: SiteStore, dataset: str) -> None:
    if store.manifest(dataset).origin == "synthetic":
        raise not_judged_on(dataset)


def _score(
    frames: FrameSet,
    told_NV: NDArray[np.float64],
    views: tuple[str, ...],
    split: Split,
    id_scores: dict[str, float],
) -> Evaluation:
    words = frames.vocabularies[0]
    told_NK = vocabulary_log_probabilities(told_NV, possible_views(words, views))
    told_MK, label_M = by_clip(told_NK, frames.label_N, frames.clip_N)
    return Evaluation(
        dataset=words.dataset,
        split=split,
        frames=score_labels(told_NK, frames.label_N, words.labels),
        clips=score_labels(told_MK, label_M, words.labels),
        id_scores=id_scores,
    )
