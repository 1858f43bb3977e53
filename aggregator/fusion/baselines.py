"""Ways to use the same experts without training a fusion: each alone, max logit, MSP, routing.

As in Bransby et al. 2024 (arXiv 2407.21577): every baseline gives log-probabilities over the union
views; a view that no asked expert owns gets the floor. Experts that did not see a dataset are
left out there.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from aggregator.joined_rows import DatasetRows
from shared.echo.expert import Block

LOG_FLOOR = -27.6  # log(1e-12), as for labels without a view
Baseline = Callable[[DatasetRows, Sequence[Block], Sequence[str]], NDArray[np.float64]]
"""Rows, blocks, union views -> log-probabilities (N, V)."""


def tell_alone(
    rows: DatasetRows, blocks: Sequence[Block], views: Sequence[str], *, expert: str
) -> NDArray[np.float64]:
    """One expert's own head; views that it lacks are always wrong."""
    place = [block.expert for block in blocks].index(expert)
    return _spread(_log_softmax(rows.logits[place]), blocks[place], views)


def tell_by_max_logit(
    rows: DatasetRows, blocks: Sequence[Block], views: Sequence[str]
) -> NDArray[np.float64]:
    """The highest raw logit among the owners of each view."""
    highest_NV = _highest(rows, blocks, views, list(rows.logits))
    told_NV = np.full(highest_NV.shape, LOG_FLOOR)
    owned_V = np.isfinite(highest_NV).all(axis=0)
    told_NV[:, owned_V] = _log_softmax(highest_NV[:, owned_V])
    return told_NV


def tell_by_max_probability(
    rows: DatasetRows, blocks: Sequence[Block], views: Sequence[str]
) -> NDArray[np.float64]:
    """The highest softmax probability (MSP) among the owners of each view, normalised."""
    highest_NV = _highest(rows, blocks, views, [_log_softmax(own_NC) for own_NC in rows.logits])
    highest_NV = np.maximum(highest_NV, LOG_FLOOR)
    told_NV: NDArray[np.float64] = _log_softmax(highest_NV)
    return told_NV


def tell_by_confidence(
    rows: DatasetRows, blocks: Sequence[Block], views: Sequence[str]
) -> NDArray[np.float64]:
    """Route each frame to the expert whose highest probability is highest."""
    told_ENV = np.stack(
        [
            _spread(_log_softmax(own_NC), block, views)
            for own_NC, block in zip(rows.logits, blocks, strict=True)
        ]
    )
    confidence_EN = np.stack([_log_odds(own_NC) for own_NC in rows.logits])
    confidence_EN[~np.array(rows.available)] = -np.inf
    chosen_N = confidence_EN.argmax(axis=0)
    routed_NV: NDArray[np.float64] = told_ENV[chosen_N, np.arange(told_ENV.shape[1])]
    return routed_NV


BASELINES: dict[str, Baseline] = {
    "max logit": tell_by_max_logit,
    "max probability": tell_by_max_probability,
    "confidence routing": tell_by_confidence,
}


def _log_softmax(logits_NC: NDArray[np.floating]) -> NDArray[np.float64]:
    shifted = logits_NC.astype(np.float64) - logits_NC.max(axis=1, keepdims=True)
    logarithms: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logarithms


def _log_odds(logits_NC: NDArray[np.floating]) -> NDArray[np.float64]:
    """The log odds of the top view: they order like its probability, but never round off to 1."""
    ordered_NC = np.sort(logits_NC.astype(np.float64), axis=1)[:, ::-1]
    below_NC = ordered_NC[:, 1:] - ordered_NC[:, :1]
    with np.errstate(divide="ignore"):  # a head of one view is always sure
        odds_N: NDArray[np.float64] = -np.log(np.exp(np.maximum(below_NC, -700.0)).sum(axis=1))
    return odds_N


def _spread(
    told_NC: NDArray[np.float64], block: Block, views: Sequence[str]
) -> NDArray[np.float64]:
    """A head's log-probabilities over the union views."""
    told_NV = np.full((len(told_NC), len(views)), LOG_FLOOR)
    told_NV[:, [list(views).index(view) for view in block.views]] = told_NC
    return told_NV


def _highest(
    rows: DatasetRows,
    blocks: Sequence[Block],
    views: Sequence[str],
    told: Sequence[NDArray[np.floating]],
) -> NDArray[np.float64]:
    """By union view the highest value among available owners, ``-inf`` without one."""
    highest_NV = np.full((len(rows.label_N), len(views)), -np.inf)
    for block, own_NC, is_available in zip(blocks, told, rows.available, strict=True):
        if is_available:
            columns = [list(views).index(view) for view in block.views]
            highest_NV[:, columns] = np.maximum(highest_NV[:, columns], own_NC)
    return highest_NV
