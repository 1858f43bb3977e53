"""The rows that a fusion is trained on: all datasets below each other, all experts side by side."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aggregator.fusion.evaluate import is_scored
from aggregator.fusion.moments import with_stand_ins
from aggregator.joined_rows import DatasetRows, JoinedRows, select_rows
from shared.echo.expert import Block
from shared.echo.label_sets import possible_views, telling_labels
from shared.echo.manifest import SPLITS
from shared.errors import Code, EchoFedError
from shared.evidence.rows import OwnRows, own_rows
from shared.models.fusion import ScoreFusion


@dataclass(frozen=True, slots=True, eq=False)
class TrainRows:
    """The training rows of all datasets, the experts side by side so that a batch is one gather.

    Args:
        features: of all experts (N, sum of D), ``logits`` and ``evidence`` likewise.
        available_NE: None where every expert saw every row.
        is_target_NV: the union views that may be shown by the row's label.
    """

    features: Tensor
    logits: Tensor
    evidence: Tensor
    available_NE: Tensor | None
    is_target_NV: Tensor
    weight_N: Tensor

    def __len__(self) -> int:
        return len(self.weight_N)


def training_rows(joined: JoinedRows, views: Sequence[str], *, balance: bool) -> TrainRows:
    """All rows that can be learned from: the label leaves some of the owned views, and not all.

    Args:
        joined: rows of all datasets.
        views: union views.
        balance: give every dataset the same total weight.

    Raises:
        EchoFedError: FRAMES_MISSING where no such row is left, ONE_CLASS_ONLY where all say the
            same, EXPERT_UNKNOWN for a dataset of whose labels no expert owns a view.
    """
    if len(views) < 2:
        raise EchoFedError(
            Code.ONE_CLASS_ONLY,
            "the experts own fewer than two views together",
            "train an expert of another view at a site, then run increment again",
        )
    picked: list[DatasetRows] = []
    targets, weights = [], []
    shares = Counter(rows.name for rows in joined.datasets)  # the same rows in more than one form
    for rows in joined.datasets:
        _require_owner(rows, views)
        is_target_KV = _targets(rows, joined.blocks, views)
        keep_N = rows.split_N == SPLITS.index("train")
        keep_N &= np.any(is_target_KV, axis=1)[rows.label_N]
        if not keep_N.any():
            continue
        picked.append(select_rows(rows, keep_N))
        targets.append(is_target_KV[picked[-1].label_N])
        weight = 1.0 / shares[rows.name] / (keep_N.sum() if balance else 1.0)
        weights.append(np.full(keep_N.sum(), weight))
    if not picked:
        raise EchoFedError(
            Code.FRAMES_MISSING,
            "no dataset in the bank has a labelled training row",
            "ingest labelled clips at a site, then run increment again",
        )
    is_target_NV = np.concatenate(targets)
    if (is_target_NV == is_target_NV[0]).all():
        raise EchoFedError(
            Code.ONE_CLASS_ONLY,
            "all training rows in the bank say the same",
            "a fusion needs at least two views; let a site with another view join",
        )
    weight_N = np.concatenate(weights)
    available_NE = np.concatenate([np.tile(r.available, (len(r.label_N), 1)) for r in picked])
    return TrainRows(
        features=_stack([rows.features for rows in picked]),
        logits=_stack([rows.logits for rows in picked]),
        evidence=_stack([rows.evidence for rows in picked]),
        available_NE=None if available_NE.all() else torch.from_numpy(available_NE),
        is_target_NV=torch.from_numpy(is_target_NV),
        weight_N=torch.from_numpy(weight_N / weight_N.mean()).float(),
    )


def fit_scales(fusion: ScoreFusion, rows: TrainRows) -> None:
    """Fix the fusion's means and deviations to those of the rows that each expert saw."""
    weight_NE = rows.weight_N[:, None].expand(-1, len(fusion.blocks))
    if rows.available_NE is not None:
        weight_NE = weight_NE * rows.available_NE
    features, _, evidence = by_expert(fusion, rows.features, rows.logits, rows.evidence)
    fusion.fit_scales(features, evidence, weight_NE)


def scale_rows(fusion: ScoreFusion, rows: TrainRows) -> TrainRows:
    """The rows with inputs standardised once, not in every step."""
    features, _, evidence = by_expert(fusion, rows.features, rows.logits, rows.evidence)
    with torch.no_grad():
        scaled, scaled_evidence = fusion.scale_inputs(features, evidence)
    return replace(rows, features=torch.cat(scaled, 1), evidence=torch.cat(scaled_evidence, 1))


def take_rows(rows: TrainRows, places_M: Tensor) -> TrainRows:
    """Some of the rows."""
    available_NE = None if rows.available_NE is None else rows.available_NE[places_M]
    return TrainRows(
        rows.features[places_M],
        rows.logits[places_M],
        rows.evidence[places_M],
        available_NE,
        rows.is_target_NV[places_M],
        rows.weight_N[places_M],
    )


def drop_experts(
    rows: TrainRows, fusion: ScoreFusion, chance: float, generator: torch.Generator
) -> TrainRows:
    """The rows with experts taken out at random, but never the last owner of a covered view.

    Args:
        rows: to be trained on.
        fusion: says which expert owns which view.
        chance: of each expert in each row.
        generator: draws.
    """
    num = (len(rows), len(fusion.blocks))
    kept_NE = torch.rand(num, generator=generator) >= chance
    if rows.available_NE is not None:
        kept_NE &= rows.available_NE
    owns_EV = torch.tensor([[view in b.views for view in fusion.views] for b in fusion.blocks])
    told_NV = (kept_NE.float() @ owns_EV.float() > 0) & rows.is_target_NV
    whole_NE = torch.ones(num, dtype=torch.bool) if rows.available_NE is None else rows.available_NE
    available_NE = torch.where(told_NV.any(dim=1, keepdim=True), kept_NE, whole_NE)
    return replace(rows, available_NE=available_NE)


def held_out_rows(joined: JoinedRows) -> list[DatasetRows]:
    """The labelled validation rows of every dataset that has some; drawn where it sent none.

    Raises:
        EchoFedError: FRAMES_MISSING where none has.
    """
    marked = [(rows, is_scored(rows, "val")) for rows in with_stand_ins(joined).datasets]
    held_out = [select_rows(rows, keep_N) for rows, keep_N in marked if keep_N.any()]
    if not held_out:
        raise EchoFedError(
            Code.FRAMES_MISSING,
            "no dataset in the bank has a labelled validation row",
            "give at least one dataset more patients, so that its splits are not empty",
        )
    return held_out


def own_training_rows(joined: JoinedRows, place: int, home: Collection[str]) -> OwnRows:
    """The labelled plain rows that the expert at a place was trained on; a class is a set of views.

    Raises:
        EchoFedError: FRAMES_MISSING where the bank has none, and what ``own_rows`` raises.
    """
    block = joined.blocks[place]
    parts = [
        select_rows(rows, is_scored(rows, "train"))
        for rows in joined.datasets
        if rows.name in home and rows.available[place]
    ]
    if not any(len(rows.label_N) for rows in parts):
        raise EchoFedError(
            Code.FRAMES_MISSING,
            f"the bank holds no training row of expert {block.expert}",
            "run increment while its site is reachable",
        )
    classes: dict[tuple[str, ...], int] = {}
    class_parts, patient_parts = [], []
    for number, rows in enumerate(parts):
        class_K = [classes.setdefault(views, len(classes)) for views in rows.label_views]
        class_parts.append(np.array(class_K)[rows.label_N])
        patient_parts.append(rows.patient_N * len(parts) + number)  # numbers are per dataset
    return own_rows(
        np.concatenate([rows.features[place] for rows in parts]),
        np.concatenate([rows.logits[place] for rows in parts]),
        np.concatenate(class_parts),
        np.concatenate(patient_parts),
    )


def by_expert(
    fusion: ScoreFusion, features: Tensor, logits: Tensor, evidence: Tensor
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Rows of all experts side by side, cut into one window per expert."""
    blocks = fusion.blocks
    return (
        list(torch.split(features, [block.feature_width for block in blocks], dim=1)),
        list(torch.split(logits, [len(block.views) for block in blocks], dim=1)),
        list(torch.split(evidence, [block.num_evidence for block in blocks], dim=1)),
    )


def _targets(rows: DatasetRows, blocks: Sequence[Block], views: Sequence[str]) -> NDArray[np.bool_]:
    """The union views that each label leaves possible and an available expert owns (K, V).

    None where that is every owned view: such a label tells nothing.
    """
    owned = {
        view
        for block, is_available in zip(blocks, rows.available, strict=True)
        if is_available
        for view in block.views
    }
    owned_V = np.array([view in owned for view in views])
    is_target_KV: NDArray[np.bool_] = possible_views(rows, views) & owned_V
    is_target_KV[(is_target_KV == owned_V).all(axis=1)] = False
    return is_target_KV


def _require_owner(rows: DatasetRows, views: Sequence[str]) -> None:
    """Refuse a dataset of which every labelled row shows a view that nobody can tell."""
    told_K = np.bincount(rows.label_N, minlength=len(rows.labels)) > 0
    told_K &= telling_labels(rows)
    if told_K.any() and not possible_views(rows, views)[told_K].any():
        raise EchoFedError(
            Code.EXPERT_UNKNOWN,
            f"no expert of this fusion owns a view that dataset {rows.name} labels",
            "collect the expert that was trained on it, or withdraw the dataset",
        )


def _stack(by_dataset: Sequence[Sequence[NDArray[np.float32]]]) -> Tensor:
    """Datasets below each other, experts side by side."""
    return torch.from_numpy(np.concatenate([np.hstack(arrays) for arrays in by_dataset]))
