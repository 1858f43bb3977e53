"""Held-out scores: each dataset in its own vocabulary, by frame and by clip, whoever predicts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax

from aggregator.joined_rows import DatasetRows
from shared.echo.label_sets import possible_views, telling_labels
from shared.echo.manifest import SPLITS, Split
from shared.metrics import (
    Calibration,
    Scores,
    by_clip,
    calibration,
    score_labels,
    vocabulary_log_probabilities,
)
from shared.models.fusion_weights import FusionModel
from shared.seeding import numpy_generator

_CHUNK = 4096  # rows at a time, so that standardised copies of the features stay small


@dataclass(frozen=True, slots=True)
class LevelScores:
    """Scores of one dataset; a clip is the mean log-probability over its frames."""

    frames: Scores
    clips: Scores


@dataclass(frozen=True, slots=True, eq=False)
class FusedRows:
    """What a fusion says of the rows of one dataset."""

    log_probabilities_NV: NDArray[np.float64]
    id_scores_NE: NDArray[np.float64]


@torch.no_grad()
def fuse_rows(fusion: FusionModel, rows: DatasetRows) -> FusedRows:
    """Predict every row of a dataset with a fusion built for the same experts in the same order."""
    log_probabilities, id_scores = [], []
    available_E = torch.tensor(rows.available)
    for start in range(0, len(rows.label_N), _CHUNK):
        part = slice(start, start + _CHUNK)
        inputs = [
            [torch.from_numpy(array[part]) for array in arrays]
            for arrays in (rows.features, rows.logits, rows.evidence)
        ]
        available_NE = available_E.expand(len(inputs[0][0]), -1)
        output = fusion(*inputs, None if all(rows.available) else available_NE)
        log_probabilities.append(output.log_probabilities_NV.double().numpy())
        id_scores.append(output.id_scores_NE.double().numpy())
    return FusedRows(np.concatenate(log_probabilities), np.concatenate(id_scores))


def is_scored(rows: DatasetRows, split: Split) -> NDArray[np.bool_]:
    """The plain rows of a split whose label says something (N)."""
    here_N = (rows.split_N == SPLITS.index(split)) & (rows.pass_N == 0)
    kept_N: NDArray[np.bool_] = here_N & telling_labels(rows)[rows.label_N]
    return kept_N


def score_rows(
    rows: DatasetRows,
    log_probabilities_NV: NDArray[np.floating],
    views: Sequence[str],
    *,
    split: Split = "test",
) -> LevelScores | None:
    """Score predictions in the dataset's own vocabulary, leaves summed.

    The site's ``other`` is the sum of what it leaves possible.

    Args:
        rows: one dataset.
        log_probabilities_NV: over ``views``, for every row of the dataset.
        views: names of the columns.
        split: which rows count.

    Returns:
        None where the split has no labelled row.
    """
    kept_N = is_scored(rows, split)
    if not kept_N.any():
        return None
    label_N, clip_N = rows.label_N[kept_N], rows.clip_N[kept_N]
    covers_KV = possible_views(rows, views)
    told_NK = vocabulary_log_probabilities(log_probabilities_NV[kept_N], covers_KV)
    told_clips, label_clips = by_clip(told_NK, label_N, clip_N)
    return LevelScores(
        frames=score_labels(told_NK, label_N, rows.labels),
        clips=score_labels(told_clips, label_clips, rows.labels),
    )


def calibrate_rows(
    rows: DatasetRows,
    log_probabilities_NV: NDArray[np.floating],
    views: Sequence[str],
    *,
    split: Split = "test",
) -> Calibration | None:
    """Whether the probabilities of clips, as a verdict computes them, keep what they promise.

    Arguments are those of ``score_rows``; None where the split has no labelled row.
    """
    kept_N = is_scored(rows, split)
    if not kept_N.any():
        return None
    told_NV = np.maximum(log_probabilities_NV[kept_N].astype(np.float64), -1e3)
    told_MV, label_M = by_clip(told_NV, rows.label_N[kept_N], rows.clip_N[kept_N])
    covers_KV = possible_views(rows, views)
    told_MK = vocabulary_log_probabilities(log_softmax(told_MV, axis=1), covers_KV)
    is_right_M = told_MK.argmax(axis=1) == label_M
    generator = numpy_generator(0, "calibration")
    return calibration(np.exp(told_MK.max(axis=1)), is_right_M, generator=generator)


def macro_score(scores: Iterable[LevelScores | None]) -> float:
    """Mean over datasets of the clip-level macro-F1; datasets without a scored row do not count."""
    values = [one.clips.macro_f1 for one in scores if one is not None]
    return float(np.mean(values)) if values else float("nan")
