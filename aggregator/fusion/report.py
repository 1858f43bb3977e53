"""The comparison of fused variants, experts and baselines on the same held-out rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aggregator.fusion.analytic import LinearHead
from aggregator.fusion.baselines import BASELINES, tell_alone
from aggregator.fusion.depth import DepthScores, score_depths
from aggregator.fusion.evaluate import (
    LevelScores,
    calibrate_rows,
    fuse_rows,
    is_scored,
    macro_score,
    score_rows,
)
from aggregator.joined_rows import DatasetRows, JoinedRows, select_rows
from shared.echo.label_sets import possible_views
from shared.echo.manifest import Split
from shared.echo.ontology import Depth
from shared.metrics import Calibration
from shared.models.fused import union_views
from shared.models.fusion_weights import FusionModel

FUSED = "fused "
"""A fused variant is listed as this and its name; an expert alone as ``expert`` and its id."""
CLOSED = "closed form "
"""A head in closed form is listed as this and its name."""


@dataclass(frozen=True, slots=True)
class FusionReport:
    """Held-out figures of every method on the same rows.

    Args:
        scores: method -> dataset -> scores in the dataset's own vocabulary.
        macro_f1: method -> mean over datasets of the clip-level macro-F1.
        id_scores: gated variant -> dataset -> expert -> mean id score.
        calibration: variant -> dataset -> how true the fused probabilities of clips are.
        depths: variant -> dataset -> depth -> figures of clips over all union views.
        incomplete: dataset -> experts that did not see it; its figures rest on the others.
        unowned: dataset -> labels of which no expert owns a view; they are always wrong.
    """

    split: Split
    scores: dict[str, dict[str, LevelScores]]
    macro_f1: dict[str, float]
    id_scores: dict[str, dict[str, dict[str, float]]]
    calibration: dict[str, dict[str, Calibration]]
    depths: dict[str, dict[str, dict[Depth, DepthScores]]]
    incomplete: dict[str, tuple[str, ...]]
    unowned: dict[str, tuple[str, ...]]


def compare(
    joined: JoinedRows,
    fusions: Mapping[str, FusionModel],
    heads: Mapping[str, LinearHead],
    *,
    split: Split = "test",
) -> FusionReport:
    """Score fused variants, heads in closed form, each expert alone and the untrained baselines.

    Args:
        joined: rows of all datasets, experts in the order of the fusions' blocks.
        fusions: variant -> trained fusion.
        heads: closed form -> fitted head.
        split: which rows count.
    """
    scores: dict[str, dict[str, LevelScores]] = {}
    id_scores: dict[str, dict[str, dict[str, float]]] = {
        variant: {} for variant, fusion in fusions.items() if fusion.has_id_scores
    }
    calibration: dict[str, dict[str, Calibration]] = {variant: {} for variant in fusions}
    depths: dict[str, dict[str, dict[Depth, DepthScores]]] = {variant: {} for variant in fusions}
    unowned: dict[str, tuple[str, ...]] = {}
    views = union_views(joined.blocks)
    for rows in joined.datasets:
        kept_N = is_scored(rows, split)
        if not kept_N.any():
            continue
        held_out = select_rows(rows, kept_N)
        if untold := _unowned(held_out, views):
            unowned[rows.name] = untold
        told = _tell_untrained(held_out, joined, views)
        for variant, fusion in fusions.items():
            fused = fuse_rows(fusion, held_out)
            told[FUSED + variant] = fused.log_probabilities_NV
            found = calibrate_rows(held_out, fused.log_probabilities_NV, views, split=split)
            assert found is not None
            calibration[variant][rows.name] = found
            depths[variant][rows.name] = score_depths(
                held_out, fused.log_probabilities_NV, views, split=split
            )
            if variant in id_scores:
                id_scores[variant][rows.name] = _means(fused.id_scores_NE, joined)
        told |= {CLOSED + name: head.tell(held_out) for name, head in heads.items()}
        for method, told_NV in told.items():
            scored = score_rows(held_out, told_NV, views, split=split)
            assert scored is not None
            scores.setdefault(method, {})[rows.name] = scored
    return FusionReport(
        split=split,
        scores=scores,
        macro_f1={method: macro_score(by_name.values()) for method, by_name in scores.items()},
        id_scores=id_scores,
        calibration=calibration,
        depths=depths,
        incomplete=dict(joined.missing),
        unowned=unowned,
    )


def _unowned(rows: DatasetRows, views: Sequence[str]) -> tuple[str, ...]:
    """Labels of the rows that cover no union view."""
    untold = set(np.flatnonzero(possible_views(rows, views).sum(axis=1) == 0).tolist())
    return tuple(rows.labels[k] for k in np.unique(rows.label_N).tolist() if k in untold)


def _tell_untrained(
    rows: DatasetRows, joined: JoinedRows, views: Sequence[str]
) -> dict[str, NDArray[np.float64]]:
    told = {
        f"expert {block.expert}": tell_alone(rows, joined.blocks, views, expert=block.expert)
        for block, is_available in zip(joined.blocks, rows.available, strict=True)
        if is_available
    }
    for name, tell in BASELINES.items():
        told[name] = tell(rows, joined.blocks, views)
    return told


def _means(id_scores_NE: NDArray[np.float64], joined: JoinedRows) -> dict[str, float]:
    means_E = id_scores_NE.mean(axis=0)
    return {block.expert: float(mean) for block, mean in zip(joined.blocks, means_E, strict=True)}
