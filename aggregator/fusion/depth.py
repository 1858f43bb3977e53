"""The same predictions scored by window, by plane and by leaf, over all views of the union.

A site's own vocabulary is the fair measure of what the site asked for; this one is the same for
all sites. A label counts at the depths where it is one value: one that stands for several planes
of a window counts by window alone. The leaves are the union views.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aggregator.fusion.evaluate import is_scored
from aggregator.joined_rows import DatasetRows
from shared.echo.label_sets import possible_views
from shared.echo.manifest import Split
from shared.echo.ontology import DEPTHS, Depth, load_ontology
from shared.metrics import by_clip, score_labels, vocabulary_log_probabilities


@dataclass(frozen=True, slots=True)
class DepthScores:
    """Figures over the clips that count at a depth; macro figures run over their true values."""

    num_clips: int
    accuracy: float
    balanced_accuracy: float
    macro_f1: float


def score_depths(
    rows: DatasetRows,
    log_probabilities_NV: NDArray[np.floating],
    views: Sequence[str],
    *,
    split: Split = "test",
) -> dict[Depth, DepthScores]:
    """Score the clips of a dataset at every depth; one at which none counts is left out.

    Arguments are those of ``score_rows``. A label that covers no union view is one value where its
    own nodes are; where no union view has that value, it cannot be told and counts as wrong.
    """
    found: dict[Depth, DepthScores] = {}
    kept_N = is_scored(rows, split)
    for depth in DEPTHS:
        value_K = _values(rows, views, depth)
        here_N = kept_N & (value_K != "")[rows.label_N]
        if not here_N.any():
            continue
        value_V = _at_depth(views, depth)
        values = list(dict.fromkeys([*value_V, *value_K[value_K != ""]]))
        member_GV = np.array([[value == one for one in value_V] for value in values])
        truth_K = np.array([values.index(value) if value else 0 for value in value_K])
        told_NG = vocabulary_log_probabilities(log_probabilities_NV[here_N], member_GV)
        told_MG, truth_M = by_clip(told_NG, truth_K[rows.label_N[here_N]], rows.clip_N[here_N])
        scores = score_labels(told_MG, truth_M, values)
        found[depth] = DepthScores(
            scores.num, scores.accuracy, scores.balanced_accuracy, scores.macro_f1
        )
    return found


def _values(rows: DatasetRows, views: Sequence[str], depth: Depth) -> NDArray[np.str_]:
    """What each label is called at a depth (K), empty where it may be several things."""
    found = []
    for nodes, possible_V in zip(rows.label_views, possible_views(rows, views), strict=True):
        left = [view for view, is_left in zip(views, possible_V, strict=True) if is_left]
        values = set(_at_depth(left or nodes, depth))
        found.append(values.pop() if len(values) == 1 else "")
    return np.array(found, dtype=np.str_)


def _at_depth(views: Sequence[str], depth: Depth) -> list[str]:
    return [load_ontology().at_depth(view, depth) for view in views]
