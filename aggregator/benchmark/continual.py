"""Figures of learning one dataset after the other, from the scores of every dataset at every stage.

References: Lopez-Paz and Ranzato 2017 (arXiv 1706.08840) for backward and forward transfer,
Chaudhry et al. 2018 (arXiv 1801.10112) for forgetting, Rebuffi et al. 2017 (arXiv 1611.07725) for
the average incremental figure. Departures: what forward transfer is above is the caller's to say,
and a score that is not there leaves out its dataset, not the figure.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.shapes import expect


@dataclass(frozen=True, slots=True)
class ContinualFigures:
    """Figures of a stream; not a number where nothing is there to tell them by.

    Args:
        final: mean over datasets after the last stage.
        average_incremental: mean over stages of the mean over the datasets that had come.
        forgetting: mean over all but the last dataset of its best score at an earlier stage, from
            its arrival on, minus its last; below 0 where the last is the best.
        backward_transfer: mean over all but the last dataset of its last score minus that at its
            arrival.
        forward_transfer: mean over all but the first dataset of its score just before it came
            minus its baseline.
    """

    final: float
    average_incremental: float
    forgetting: float
    backward_transfer: float
    forward_transfer: float


def continual_figures(
    scores_TI: NDArray[np.float64], baseline_I: NDArray[np.float64] | None = None
) -> ContinualFigures:
    """Sum up a matrix of scores in which dataset i comes with stage i.

    Args:
        scores_TI: of each dataset after each stage; not a number where there is none.
        baseline_I: score of each dataset without any learning; 0 by default.
    """
    num = expect(scores_TI, "T I", I=scores_TI.shape[0])["T"]
    baseline_I = np.zeros(num) if baseline_I is None else baseline_I
    at_arrival_I, last_I = np.diagonal(scores_TI), scores_TI[-1]
    by_stage = [_mean(scores_TI[stage, : stage + 1]) for stage in range(num)]
    best = [_best(scores_TI[dataset:-1, dataset]) for dataset in range(num - 1)]
    before_I = np.diagonal(scores_TI, offset=1)
    return ContinualFigures(
        final=_mean(last_I),
        average_incremental=float(np.mean(by_stage)),
        forgetting=_mean(np.array(best) - last_I[:-1]),
        backward_transfer=_mean((last_I - at_arrival_I)[:-1]),
        forward_transfer=_mean(before_I - baseline_I[1:]),
    )


def _mean(values: NDArray[np.float64]) -> float:
    there = values[~np.isnan(values)]
    return float(there.mean()) if there.size else float("nan")


def _best(values: NDArray[np.float64]) -> float:
    there = values[~np.isnan(values)]
    return float(there.max()) if there.size else float("nan")
