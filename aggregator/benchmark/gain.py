"""How much one method tells better than another on the same test clips, with an interval."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aggregator.benchmark.result import FinalClips
from aggregator.fusion.paired import RESAMPLES, drawn_figures
from shared.seeding import numpy_generator

_INTERVAL = (0.025, 0.975)


@dataclass(frozen=True, slots=True)
class Gain:
    """Difference in clip macro-F1, the mean over datasets and seeds.

    Args:
        low: lower end of the 95 % interval, patients drawn with replacement.
        high: upper end.
    """

    mean: float
    low: float
    high: float


def patient_gain(
    before: Sequence[Sequence[FinalClips]],
    after: Sequence[Sequence[FinalClips]],
    *,
    are_same_patients: bool,
) -> Gain | None:
    """Draw patients with replacement, within each dataset of each seed.

    Args:
        before: by seed, a method's clips by dataset.
        after: the same of the method that may be better.
        are_same_patients: the seeds test the same patients. Export keys do not tell which is
            which, so all seeds are taken to swing together and seeds do not narrow the interval;
            else they are drawn apart.

    Returns:
        None where the two have no dataset in common in some seed.
    """
    means, draws = [], []
    for seed, pair in enumerate(zip(before, after, strict=True)):
        told_before = {one.dataset: one for one in pair[0]}
        paired = [(told_before[one.dataset], one) for one in pair[1] if one.dataset in told_before]
        if not paired:
            return None
        generator = numpy_generator(seed, "patient bootstrap")
        by_dataset = [_draw(*both, generator=generator) for both in paired]
        means.append(np.mean([mean for mean, _ in by_dataset]))
        draws.append(np.mean([drawn_R for _, drawn_R in by_dataset], axis=0))
    gains_SR = np.sort(draws, axis=1) if are_same_patients else np.array(draws)
    low, high = np.quantile(gains_SR.mean(axis=0), _INTERVAL)
    return Gain(float(np.mean(means)), float(low), float(high))


def _draw(
    before: FinalClips, after: FinalClips, *, generator: np.random.Generator
) -> tuple[float, NDArray[np.float64]]:
    """The difference on a dataset, and that of every draw of its patients (R)."""
    num = max(after.patients) + 1
    times_RP = generator.multinomial(num, np.full(num, 1.0 / num), size=RESAMPLES)
    times_RP = np.vstack([np.ones(num, dtype=np.int64), times_RP])
    was_R, is_R = (
        drawn_figures(np.tensordot(times_RP, _confusions(one), axes=1), one.labels)["macro_f1"]
        for one in (before, after)
    )
    differences_R = is_R - was_R
    return float(differences_R[0]), differences_R[1:]


def _confusions(clips: FinalClips) -> NDArray[np.int64]:
    """Clips by patient, true label and told label (P, K, K)."""
    num = len(clips.labels)
    counts_PKK = np.zeros((max(clips.patients) + 1, num, num), dtype=np.int64)
    np.add.at(counts_PKK, (clips.patients, clips.true, clips.told), 1)
    return counts_PKK
