"""Training of the fusion's variants on joined rows, and the choice between them.

Reference: Bransby et al. 2024 (arXiv 2407.21577): Adam at 1e-3 on feature rows only, the best
validation state kept. Departures: the loss is the marginal one for labels that are sets of views
(Shi et al. 2021, arXiv 2007.03868), datasets weigh equally, and training stops early.
"""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from aggregator.fusion.blend import fit_blend, fit_blend_head
from aggregator.fusion.calibrate import abstain_threshold
from aggregator.fusion.evaluate import fuse_rows, macro_score, score_rows
from aggregator.fusion.fit import fit_union_head
from aggregator.fusion.moments import project, unproject, with_stand_ins
from aggregator.fusion.novelty import carried_by, fit_novelty, site_rejections
from aggregator.fusion.rows import (
    TrainRows,
    by_expert,
    drop_experts,
    fit_scales,
    held_out_rows,
    scale_rows,
    take_rows,
    training_rows,
)
from aggregator.fusion.translate import with_translations
from aggregator.joined_rows import DatasetRows, JoinedRows
from aggregator.settings import FusionSettings
from shared.echo.expert import Block, Carried, FusionCard, FusionVariant, Rejection
from shared.echo.label_sets import possible_views
from shared.files import sha256_hex
from shared.metrics import vocabulary_log_probabilities
from shared.models.fused import union_views
from shared.models.fusion import ScoreFusion
from shared.models.fusion_weights import FusionModel, copy_shared, fusion_to_bytes
from shared.models.novelty import Novelty
from shared.seeding import derive_seed
from shared.settings import dump_settings, hash_settings

log = logging.getLogger(__name__)
Progress = Callable[[FusionVariant, int, int], None]
"""Told after each epoch: variant, epochs done, epochs at most."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """What the card says beside the weights.

    Args:
        parent: id of the fusion that this one follows, empty for the first.
        fresh: datasets whose exports were taken for this fusion; ``cached`` those stored earlier.
        missing: datasets without any export; those that only lack some are added to the card.
        created: ISO time.
    """

    created: str
    parent: str = ""
    fresh: tuple[str, ...] = ()
    cached: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class TrainedFusion:
    """A trained variant.

    Args:
        validation: macro score of the kept state.
        certainty: mean log-probability that it gives to the labels of the validation rows.
        curve: validation macro score after each epoch.
    """

    card: FusionCard
    weights: bytes
    fusion: FusionModel
    validation: float
    certainty: float
    curve: tuple[float, ...]


@dataclass(frozen=True, slots=True, eq=False)
class FusionTrials:
    """All trained variants and the one to serve."""

    by_variant: dict[FusionVariant, TrainedFusion]
    chosen: FusionVariant

    @property
    def best(self) -> TrainedFusion:
        """The trained fusion to serve."""
        return self.by_variant[self.chosen]


def train_fusions(
    joined: JoinedRows,
    settings: FusionSettings,
    provenance: Provenance,
    *,
    homes: Mapping[str, Collection[str]] | None = None,
    progress: Progress | None = None,
    warm_start: FusionModel | None = None,
) -> FusionTrials:
    """Train every variant that the settings ask for and choose one.

    Args:
        joined: rows of all datasets.
        settings: variants, schedule, seed.
        provenance: what goes into the cards.
        homes: expert -> names of the datasets that it was trained on, as far as they are known.
        progress: told after every epoch.
        warm_start: an earlier fusion; weights of experts that both have are taken over.

    Raises:
        EchoFedError: FRAMES_MISSING where no labelled row is left for training or for validation,
            ONE_CLASS_ONLY and EXPERT_UNKNOWN as ``training_rows``.
    """
    views = union_views(joined.blocks)
    num_threads = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    try:
        whole = with_stand_ins(joined)
        seen = project(whole) if joined.statistics else whole
        rows = training_rows(_fill(seen, settings), views, balance=settings.balance_datasets)
        lesson = _Lesson(
            told=_fill(joined, settings),
            held_out=held_out_rows(whole),
            rows=rows,
            seen_blocks=seen.blocks,
            seen_held_out=held_out_rows(seen),
            settings=settings,
            progress=progress,
            warm_start=warm_start,
        )
        known = _known(joined, homes or {}, recall=settings.known_recall)
        trained: dict[FusionVariant, TrainedFusion] = {}
        learnt: dict[FusionVariant, _Learnt] = {}
        for variant in settings.variants:
            learnt[variant] = _LEARNERS[variant](lesson, learnt)
            trained[variant] = _finish(
                learnt[variant], whole, known, settings=settings, provenance=provenance
            )
    finally:
        torch.set_num_threads(num_threads)
    # A proper score: a few validation clips tell variants apart by it, by macro-F1 hardly ever.
    best = max(trained, key=lambda variant: trained[variant].certainty)
    return FusionTrials(trained, best if settings.serve == "best" else settings.serve)


def _fill(joined: JoinedRows, settings: FusionSettings) -> JoinedRows:
    """The datasets, with translations of missing blocks where the settings ask for them."""
    return with_translations(joined) if settings.translate_missing else joined


@dataclass(frozen=True, slots=True, eq=False)
class _Known:
    """What says whether a frame is at home, the same for every variant."""

    novelty: Novelty | None
    carries: tuple[Carried, ...]
    rejections: dict[str, Rejection]


def _known(joined: JoinedRows, homes: Mapping[str, Collection[str]], *, recall: float) -> _Known:
    """Fitted on rows alone: draws from statistics have no features as the experts give them.

    A dataset told of by statistics would be foreign to its own site, so that one refuses nothing.
    """
    novelty = fit_novelty(joined, homes)
    rejections = site_rejections(novelty, joined.datasets, recall=recall)
    unmeasured = {export.card.site: Rejection(0.0) for export in joined.statistics}
    return _Known(novelty, carried_by(novelty, joined), rejections | unmeasured)


@dataclass(frozen=True, slots=True, eq=False)
class _Lesson:
    """All that a variant is learnt from.

    Args:
        told: what closed forms are fitted on.
        held_out: to validate, with all features.
        rows: to train on; where some datasets are statistics only, their features are projected.
        seen_blocks: experts with features as wide as in ``rows``.
        seen_held_out: to validate, with features as in ``rows``.
    """

    told: JoinedRows
    held_out: Sequence[DatasetRows]
    rows: TrainRows
    seen_blocks: tuple[Block, ...]
    seen_held_out: Sequence[DatasetRows]
    settings: FusionSettings
    progress: Progress | None
    warm_start: FusionModel | None


@dataclass(frozen=True, slots=True, eq=False)
class _Learnt:
    """A variant after learning.

    Args:
        fusion: to be served.
        judged: the same before it saw a validation row.
        reached: validation macro score and certainty of ``judged``.
        curve: its macro score after each epoch.
    """

    fusion: FusionModel
    judged: FusionModel
    reached: tuple[float, float]
    curve: tuple[float, ...]


_Before = Mapping[FusionVariant, _Learnt]
"""The variants learnt before this one, of the same lesson."""


def _learn_score(lesson: _Lesson, _: _Before, *, variant: FusionVariant) -> _Learnt:
    fusion, (reached, curve) = _train_score(lesson, variant)
    return _Learnt(fusion, fusion, reached, curve)


def _train_score(
    lesson: _Lesson, variant: FusionVariant
) -> tuple[ScoreFusion, tuple[tuple[float, float], tuple[float, ...]]]:
    fusion = ScoreFusion(lesson.seen_blocks, variant, seed=lesson.settings.seed)
    fit_scales(fusion, lesson.rows)
    if lesson.warm_start is not None:
        copy_shared(lesson.warm_start, fusion)
    reached = _train(
        fusion,
        lesson.rows,
        lesson.seen_held_out,
        settings=lesson.settings,
        progress=lesson.progress,
    )
    if lesson.told.statistics:
        fusion = unproject(fusion, lesson.told.blocks)
    return fusion, reached


def _learn_ridge(lesson: _Lesson, _: _Before) -> _Learnt:
    balance = lesson.settings.balance_datasets
    judged = fit_union_head(lesson.told, lesson.held_out, balance=balance)
    final = fit_union_head(lesson.told, lesson.held_out, balance=balance, is_final=True)
    reached = _validate(judged, lesson.held_out)
    return _Learnt(final, judged, reached, (reached[0],))


def _learn_blend(lesson: _Lesson, before: _Before) -> _Learnt:
    """Of the sum that was trained already, where it was: it would come out the same again."""
    balance = lesson.settings.balance_datasets
    head = fit_blend_head(lesson.told, lesson.held_out, balance=balance)  # refuses bad features
    score = before["sum"].fusion if "sum" in before else _train_score(lesson, "sum")[0]
    assert isinstance(score, ScoreFusion)
    judged = fit_blend(score, head, lesson.held_out)
    reached = _validate(judged, lesson.held_out)
    final = deepcopy(judged)
    again = fit_blend_head(lesson.told, lesson.held_out, balance=balance, is_final=True)
    copy_shared(again, final)
    return _Learnt(final, judged, reached, (reached[0],))


_LEARNERS: dict[FusionVariant, Callable[[_Lesson, _Before], _Learnt]] = {
    "sum": partial(_learn_score, variant="sum"),
    "attention": partial(_learn_score, variant="attention"),
    "discrepancy": partial(_learn_score, variant="discrepancy"),
    "ridge": _learn_ridge,
    "blend": _learn_blend,
}


def _train(
    fusion: ScoreFusion,
    rows: TrainRows,
    held_out: Sequence[DatasetRows],
    *,
    settings: FusionSettings,
    progress: Progress | None,
) -> tuple[tuple[float, float], tuple[float, ...]]:
    """Train in place, end with the best validation state; its two scores and the curve."""
    optimiser = torch.optim.Adam(
        fusion.parameters(),
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    generator = torch.Generator().manual_seed(derive_seed(settings.seed, "fusion rows"))
    scaled = scale_rows(fusion, rows)
    best, best_epoch, best_state = _validate(fusion, held_out), 0, _state(fusion)
    curve: list[float] = []
    for epoch in range(1, settings.epochs + 1):
        fusion.train()
        order_N = torch.randperm(len(rows), generator=generator)
        for places_M in torch.split(order_N, settings.batch_size):
            optimiser.zero_grad(set_to_none=True)
            batch = take_rows(scaled, places_M)
            if settings.expert_dropout:
                batch = drop_experts(batch, fusion, settings.expert_dropout, generator)
            _loss(fusion, batch).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        reached = _validate(fusion, held_out)
        curve.append(reached[0])
        if reached > best:
            best, best_epoch, best_state = reached, epoch, _state(fusion)
        if progress is not None:
            progress(fusion.variant, epoch, settings.epochs)
        if epoch - best_epoch >= settings.patience:
            break
    fusion.load_state_dict(best_state)
    fusion.eval()
    log.info(
        "fusion variant=%s epochs=%d best_epoch=%d macro_f1=%.4f",
        fusion.variant,
        len(curve),
        best_epoch,
        best[0],
    )
    return best, tuple(curve)


def _loss(fusion: ScoreFusion, batch: TrainRows) -> Tensor:
    """-log of the probability of all views that the label leaves possible, over weighted rows."""
    inputs = by_expert(fusion, batch.features, batch.logits, batch.evidence)
    output = fusion.fuse_scaled(*inputs, batch.available_NE)
    covered_MV = output.log_probabilities_NV.masked_fill(~batch.is_target_NV, -torch.inf)
    loss: Tensor = -(batch.weight_N * covered_MV.logsumexp(dim=1)).mean()
    return loss


def _validate(fusion: FusionModel, held_out: Sequence[DatasetRows]) -> tuple[float, float]:
    """Macro score of the validation clips; then the mean log-probability, to tell equals apart."""
    fusion.eval()
    scores, certainties = [], []
    for rows in held_out:
        told_NV = fuse_rows(fusion, rows).log_probabilities_NV
        scores.append(score_rows(rows, told_NV, fusion.views, split="val"))
        told_NK = vocabulary_log_probabilities(told_NV, possible_views(rows, fusion.views))
        certainties.append(told_NK[np.arange(len(told_NK)), rows.label_N].mean())
    return macro_score(scores), float(np.mean(certainties))


def _state(fusion: ScoreFusion) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in fusion.state_dict().items()}


def _finish(
    learnt: _Learnt,
    joined: JoinedRows,
    known: _Known,
    *,
    settings: FusionSettings,
    provenance: Provenance,
) -> TrainedFusion:
    """Pack the weights and write the card."""
    fusion = learnt.fusion
    weights = fusion_to_bytes(fusion, known.novelty)
    sha256 = sha256_hex(weights)
    best, certainty = learnt.reached
    card = FusionCard(
        id=f"fusion-{sha256[:12]}",
        variant=fusion.variant,
        views=fusion.views,
        blocks=fusion.blocks,
        weights_sha256=sha256,
        parent=provenance.parent,
        exports=tuple(export for rows in joined.datasets for export in rows.exports),
        fresh=provenance.fresh,
        cached=provenance.cached,
        missing=tuple(dict.fromkeys((*provenance.missing, *joined.missing))),
        seed=settings.seed,
        settings_hash=hash_settings(settings),
        settings={
            name: ",".join(value) if isinstance(value, list) else value
            for name, value in dump_settings(settings).items()
        },
        metrics={
            "val_macro_f1": best,
            "val_certainty": certainty,
            "epochs": float(len(learnt.curve)),
        },
        abstain_below=abstain_threshold(learnt.judged, joined.datasets, settings.abstain_quantile),
        created=provenance.created,
        carries=known.carries,
        rejections=known.rejections,
    )
    return TrainedFusion(card, weights, fusion, best, certainty, learnt.curve)
