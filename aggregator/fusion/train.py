"""Training of the fusion's variants on joined rows, and the choice between them.

Reference: Bransby et al. 2024 (arXiv 2407.21577): Adam at 1e-3 on feature rows only, the best
validation state kept. Departures: the loss is the marginal one for labels that are sets of views
(Shi et al. 2021, arXiv 2007.03868), datasets weigh equally, and training stops early.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aggregator.feature_bank import DatasetRows, JoinedRows, select_rows
from aggregator.fusion.calibrate import abstain_threshold
from aggregator.fusion.evaluate import fuse_rows, is_scored, macro_score, score_rows
from aggregator.settings import FusionSettings
from shared.echo.expert import Block, FusionCard, FusionVariant
from shared.echo.manifest import SPLITS
from shared.echo.ontology import load_ontology
from shared.errors import Code, EchoFedError
from shared.files import sha256_hex
from shared.metrics import vocabulary_log_probabilities
from shared.models.fusion import ScoreFusion, copy_shared, fusion_to_bytes, union_views
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
        curve: validation macro score after each epoch.
    """

    card: FusionCard
    weights: bytes
    fusion: ScoreFusion
    validation: float
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


@dataclass(frozen=True, slots=True, eq=False)
class _TrainRows:
    """The training rows of all datasets, the experts side by side so that a batch is one gather.

    Args:
        features: of all experts (N, sum of D), ``logits`` and ``evidence`` likewise.
        available_NE: None where every expert saw every row.
        is_target_NV: the union views that the row's label covers.
    """

    features: Tensor
    logits: Tensor
    evidence: Tensor
    available_NE: Tensor | None
    is_target_NV: Tensor
    weight_N: Tensor

    def __len__(self) -> int:
        return len(self.weight_N)


def train_fusions(
    joined: JoinedRows,
    settings: FusionSettings,
    provenance: Provenance,
    *,
    progress: Progress | None = None,
    warm_start: ScoreFusion | None = None,
) -> FusionTrials:
    """Train every variant that the settings ask for and choose one.

    Args:
        joined: rows of all datasets.
        settings: variants, schedule, seed.
        provenance: what goes into the cards.
        progress: told after every epoch.
        warm_start: an earlier fusion; weights of experts that both have are taken over.

    Raises:
        EchoFedError: FRAMES_MISSING where no labelled row is left for training or for validation.
    """
    views = union_views(joined.blocks)
    num_threads = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    try:
        held_out = _held_out(joined)
        rows = _training_rows(joined, views, balance=settings.balance_datasets)
        trained: dict[FusionVariant, TrainedFusion] = {}
        for variant in settings.variants:
            fusion = ScoreFusion(joined.blocks, variant, seed=settings.seed)
            _fit_scales(fusion, rows)
            if warm_start is not None:
                copy_shared(warm_start, fusion)
            reached = _train(fusion, rows, held_out, settings=settings, progress=progress)
            trained[variant] = _finish(
                fusion, reached, joined, settings=settings, provenance=provenance
            )
    finally:
        torch.set_num_threads(num_threads)
    best = max(trained, key=lambda variant: trained[variant].validation)
    return FusionTrials(trained, best if settings.serve == "best" else settings.serve)


def _train(
    fusion: ScoreFusion,
    rows: _TrainRows,
    held_out: Sequence[DatasetRows],
    *,
    settings: FusionSettings,
    progress: Progress | None,
) -> tuple[float, tuple[float, ...]]:
    """Train in place, end with the best validation state; its score and the curve of scores."""
    optimiser = torch.optim.Adam(
        fusion.parameters(),
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    generator = torch.Generator().manual_seed(derive_seed(settings.seed, "fusion rows"))
    scaled = _scaled(fusion, rows)
    best, best_epoch, best_state = _validate(fusion, held_out), 0, _state(fusion)
    curve: list[float] = []
    for epoch in range(1, settings.epochs + 1):
        fusion.train()
        order_N = torch.randperm(len(rows), generator=generator)
        for places_M in torch.split(order_N, settings.batch_size):
            optimiser.zero_grad(set_to_none=True)
            _loss(fusion, scaled, places_M).backward()  # type: ignore[no-untyped-call]
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
    return best[0], tuple(curve)


def _fit_scales(fusion: ScoreFusion, rows: _TrainRows) -> None:
    weight_NE = rows.weight_N[:, None].expand(-1, len(fusion.blocks))
    if rows.available_NE is not None:
        weight_NE = weight_NE * rows.available_NE
    features, _, evidence = _by_expert(fusion, rows.features, rows.logits, rows.evidence)
    fusion.fit_scales(features, evidence, weight_NE)


def _scaled(fusion: ScoreFusion, rows: _TrainRows) -> _TrainRows:
    """The rows with inputs standardised once, not in every step."""
    features, _, evidence = _by_expert(fusion, rows.features, rows.logits, rows.evidence)
    with torch.no_grad():
        scaled, scaled_evidence = fusion.scale_inputs(features, evidence)
    return replace(rows, features=torch.cat(scaled, 1), evidence=torch.cat(scaled_evidence, 1))


def _by_expert(
    fusion: ScoreFusion, features: Tensor, logits: Tensor, evidence: Tensor
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Rows of all experts side by side, cut into one window per expert."""
    blocks = fusion.blocks
    return (
        list(torch.split(features, [block.feature_width for block in blocks], dim=1)),
        list(torch.split(logits, [len(block.views) for block in blocks], dim=1)),
        list(torch.split(evidence, [block.num_evidence for block in blocks], dim=1)),
    )


def _loss(fusion: ScoreFusion, scaled: _TrainRows, places_M: Tensor) -> Tensor:
    """-log of the probability of all views that the label covers, averaged over weighted rows."""
    inputs = _by_expert(
        fusion, scaled.features[places_M], scaled.logits[places_M], scaled.evidence[places_M]
    )
    available_ME = None if scaled.available_NE is None else scaled.available_NE[places_M]
    output = fusion.fuse_scaled(*inputs, available_ME)
    covered_MV = output.log_probabilities_NV.masked_fill(~scaled.is_target_NV[places_M], -torch.inf)
    loss: Tensor = -(scaled.weight_N[places_M] * covered_MV.logsumexp(dim=1)).mean()
    return loss


def _held_out(joined: JoinedRows) -> list[DatasetRows]:
    """The labelled validation rows of every dataset that has some."""
    marked = [(rows, is_scored(rows, "val")) for rows in joined.datasets]
    held_out = [select_rows(rows, keep_N) for rows, keep_N in marked if keep_N.any()]
    if not held_out:
        raise EchoFedError(
            Code.FRAMES_MISSING,
            "no dataset in the bank has a labelled validation row",
            "give at least one dataset more patients, so that its splits are not empty",
        )
    return held_out


def _validate(fusion: ScoreFusion, held_out: Sequence[DatasetRows]) -> tuple[float, float]:
    """Macro score of the validation clips; then the mean log-probability, to tell equals apart."""
    fusion.eval()
    scores, certainties = [], []
    for rows in held_out:
        told_NV = fuse_rows(fusion, rows).log_probabilities_NV
        scores.append(score_rows(rows, told_NV, fusion.views, split="val"))
        told_NK = vocabulary_log_probabilities(told_NV, fusion.views, rows.label_views)
        certainties.append(told_NK[np.arange(len(told_NK)), rows.label_N].mean())
    return macro_score(scores), float(np.mean(certainties))


def _state(fusion: ScoreFusion) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in fusion.state_dict().items()}


def _training_rows(joined: JoinedRows, views: Sequence[str], *, balance: bool) -> _TrainRows:
    """All rows that can be learned from: labelled, and with an owner of a covered view at hand."""
    picked: list[DatasetRows] = []
    targets, weights = [], []
    for rows in joined.datasets:
        is_target_KV = _targets(rows, joined.blocks, views)
        keep_N = rows.split_N == SPLITS.index("train")
        keep_N &= np.any(is_target_KV, axis=1)[rows.label_N]
        if not keep_N.any():
            continue
        picked.append(select_rows(rows, keep_N))
        targets.append(is_target_KV[picked[-1].label_N])
        weights.append(np.full(keep_N.sum(), 1.0 / keep_N.sum() if balance else 1.0))
    if not picked:
        raise EchoFedError(
            Code.FRAMES_MISSING,
            "no dataset in the bank has a labelled training row",
            "ingest labelled clips at a site, then run increment again",
        )
    weight_N = np.concatenate(weights)
    available_NE = np.concatenate([np.tile(r.available, (len(r.label_N), 1)) for r in picked])
    return _TrainRows(
        features=_stack([rows.features for rows in picked]),
        logits=_stack([rows.logits for rows in picked]),
        evidence=_stack([rows.evidence for rows in picked]),
        available_NE=None if available_NE.all() else torch.from_numpy(available_NE),
        is_target_NV=torch.from_numpy(np.concatenate(targets)),
        weight_N=torch.from_numpy(weight_N / weight_N.mean()).float(),
    )


def _targets(rows: DatasetRows, blocks: Sequence[Block], views: Sequence[str]) -> NDArray[np.bool_]:
    """The union views that each label covers and an available expert owns (K, V)."""
    ontology = load_ontology()
    is_target_KV = np.zeros((len(rows.labels), len(views)), dtype=np.bool_)
    owned = {
        view
        for block, is_available in zip(blocks, rows.available, strict=True)
        if is_available
        for view in block.views
    }
    for label, nodes in enumerate(rows.label_views):
        covered = ontology.covered(nodes, views)
        is_target_KV[label] = [view in owned and view in covered for view in views]
    return is_target_KV


def _stack(by_dataset: Sequence[Sequence[NDArray[np.float32]]]) -> Tensor:
    """Datasets below each other, experts side by side."""
    return torch.from_numpy(np.concatenate([np.hstack(arrays) for arrays in by_dataset]))


def _finish(
    fusion: ScoreFusion,
    reached: tuple[float, tuple[float, ...]],
    joined: JoinedRows,
    *,
    settings: FusionSettings,
    provenance: Provenance,
) -> TrainedFusion:
    """Pack the weights and write the card."""
    weights = fusion_to_bytes(fusion)
    sha256 = sha256_hex(weights)
    best, curve = reached
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
        metrics={"val_macro_f1": best, "epochs": float(len(curve))},
        abstain_below=abstain_threshold(fusion, joined.datasets, settings.abstain_quantile),
        created=provenance.created,
    )
    return TrainedFusion(card, weights, fusion, best, curve)
