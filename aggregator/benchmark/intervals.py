"""Patient-bootstrap intervals of final figures, and of what one method gains on another.

Patients are drawn with replacement within each dataset, the same ones for both methods, and a
figure is the mean over datasets and streams; so the intervals are of the patients, with streams,
datasets and trained methods as they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aggregator.benchmark.result import FinalClips, MethodResult
from aggregator.fusion.paired import INTERVAL, draw_patients, figures_of_draws
from shared.errors import Code, EchoFedError
from shared.seeding import numpy_generator


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float


def final_interval(
    results: Sequence[MethodResult],
    figure: str,
    *,
    dataset: str | None = None,
    share_patients: bool = False,
    seed: int = 0,
) -> Interval:
    """A method's figure after the last stage.

    Args:
        results: of the method, one per stream.
        figure: ``macro_f1``, ``accuracy``, ``balanced_accuracy`` or, of one dataset,
            ``recall <label>``.
        dataset: only this one; by default the mean over all.
        share_patients: streams test some of the same patients. Their keys do not tell which, so
            all streams are taken to swing together, and more of them make no narrower interval.
        seed: of the draws.

    Raises:
        EchoFedError: NAME_UNKNOWN where no stream has the figure.
    """
    drawn = _draw_streams([(one, None) for one in results], figure, dataset, seed)
    return _interval(drawn, share_patients=share_patients)


def gain_interval(
    pairs: Sequence[tuple[MethodResult, MethodResult]],
    figure: str,
    *,
    dataset: str | None = None,
    share_patients: bool = False,
    seed: int = 0,
) -> Interval:
    """A method's figure minus that of another on the same clips; otherwise as ``final_interval``.

    Args:
        pairs: of each stream the method and the one that it is held against.
        figure: as in ``final_interval``.
        dataset: as in ``final_interval``.
        share_patients: as in ``final_interval``.
        seed: of the draws.
    """
    drawn = _draw_streams(pairs, figure, dataset, seed)
    return _interval(drawn, share_patients=share_patients)


def _interval(drawn_SR: NDArray[np.float64], *, share_patients: bool) -> Interval:
    """The mean over streams; the first of R is that of all patients."""
    if share_patients:  # the sum of the ends is never inside those of the sum
        low, high = np.nanquantile(drawn_SR[:, 1:], INTERVAL, axis=1).mean(axis=1)
    else:
        low, high = np.nanquantile(drawn_SR[:, 1:].mean(axis=0), INTERVAL)
    return Interval(float(drawn_SR[:, 0].mean()), float(low), float(high))


def _draw_streams(
    pairs: Sequence[tuple[MethodResult, MethodResult | None]],
    figure: str,
    dataset: str | None,
    seed: int,
) -> NDArray[np.float64]:
    """By stream, the mean over its datasets of the figure of all patients and of every resample.

    Raises:
        EchoFedError: NAME_UNKNOWN.
    """
    drawn = []
    for number, (method, other) in enumerate(pairs):
        against = {} if other is None else {one.dataset: one for one in other.final.finals}
        by_dataset = []
        for clips in method.final.finals:
            if dataset not in (None, clips.dataset):
                continue
            generator = numpy_generator(seed, "patients", number, clips.dataset)
            beside = None if other is None else against[clips.dataset]
            values_R = _draw(clips, beside, figure, generator)
            if values_R is not None:
                by_dataset.append(values_R)
        if by_dataset:
            drawn.append(np.mean(by_dataset, axis=0))
    if not drawn:
        raise EchoFedError(
            Code.NAME_UNKNOWN,
            f"no result has a figure {figure!r} of {dataset or 'any dataset'}",
            "figures are macro_f1, accuracy, balanced_accuracy and 'recall <label>'",
        )
    return np.array(drawn)


def _draw(
    clips: FinalClips, other: FinalClips | None, figure: str, generator: np.random.Generator
) -> NDArray[np.float64] | None:
    """The figure of all patients, then of every resample (1 + R); None where there is none."""
    counts_PKK = _count(clips)
    times_RP = draw_patients(len(counts_PKK), generator)
    times_RP = np.concatenate([np.ones((1, len(counts_PKK))), times_RP])

    def figures(counted_PKK: NDArray[np.int64]) -> NDArray[np.float64] | None:
        found = figures_of_draws(np.tensordot(times_RP, counted_PKK, axes=1), clips.labels)
        return found.get(figure)

    values_R = figures(counts_PKK)
    if values_R is None or other is None:
        return values_R
    assert (clips.patients, clips.true) == (other.patients, other.true)  # one join, one order
    others_R = figures(_count(other))
    return None if others_R is None else values_R - others_R


def _count(clips: FinalClips) -> NDArray[np.int64]:
    """By patient, clips of true (rows) and told label (columns)."""
    num = len(clips.labels)
    counts_PKK = np.zeros((max(clips.patients) + 1, num, num), dtype=np.int64)
    np.add.at(counts_PKK, (np.array(clips.patients), np.array(clips.true), np.array(clips.told)), 1)
    return counts_PKK
