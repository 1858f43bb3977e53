"""Two fusions on the same held-out clips, with patient-bootstrap intervals of the difference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aggregator.fusion.evaluate import fuse_rows, is_scored
from aggregator.joined_rows import DatasetRows, JoinedRows, select_rows
from shared.echo.expert import Block
from shared.echo.label_sets import possible_views
from shared.metrics import by_clip, vocabulary_log_probabilities
from shared.models.fusion_weights import FusionModel
from shared.seeding import numpy_generator

RESAMPLES = 1000
INTERVAL = (0.025, 0.975)  # of the resampled differences
Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class PairedClips:
    """What two fusions made of the held-out clips of a dataset.

    Args:
        labels: the dataset's own words, in the order of K.
        label_views: views that each label stands for.
        before_PKK: by patient, clips of true label (rows) and told label (columns), as the
            serving fusion tells; None where it cannot say anything of this dataset.
        after_PKK: the same of the candidate.
    """

    labels: tuple[str, ...]
    label_views: tuple[tuple[str, ...], ...]
    before_PKK: Counts | None
    after_PKK: Counts


def pair_clips(
    rows: DatasetRows, joined: JoinedRows, *, before: FusionModel | None, after: FusionModel
) -> PairedClips | None:
    """Let both fusions tell the test clips of a dataset.

    Args:
        rows: a dataset of ``joined``.
        joined: what the experts of both fusions saw, as far as the bank has it.
        before: the serving fusion.
        after: the candidate.

    Returns:
        None where there is no labelled test row, or none that an expert of the candidate saw.
    """
    kept_N = is_scored(rows, "test")
    if not kept_N.any():
        return None
    held_out = select_rows(rows, kept_N)
    after_PKK = _count(after, held_out, joined.blocks)
    if after_PKK is None:
        return None
    before_PKK = None if before is None else _count(before, held_out, joined.blocks)
    return PairedClips(rows.labels, rows.label_views, before_PKK, after_PKK)


def figures(counts_KK: NDArray[Any], labels: Sequence[str]) -> dict[str, float]:
    """Figures of a confusion by name, as ``shared.metrics`` defines them, recalls by label."""
    values = {
        name: float(one[0]) for name, one in figures_of_draws(counts_KK[None], labels).items()
    }
    return {name: value for name, value in values.items() if not np.isnan(value)}


def patient_intervals(clips: PairedClips, *, seed: int) -> dict[str, tuple[float, float]]:
    """95 % intervals of candidate minus serving fusion, patients drawn with replacement.

    Empty where nothing is compared or fewer than two patients are held out.
    """
    if clips.before_PKK is None or len(clips.after_PKK) < 2:
        return {}
    times_RP = draw_patients(len(clips.after_PKK), numpy_generator(seed, "patient bootstrap"))
    drawn = [
        figures_of_draws(np.tensordot(times_RP, counts_PKK, axes=1), clips.labels)
        for counts_PKK in (clips.before_PKK, clips.after_PKK)
    ]
    return _quantiles(drawn[0], drawn[1], clips)


def clip_intervals(clips: PairedClips, *, seed: int) -> dict[str, tuple[float, float]]:
    """The same from confusions alone: clips drawn with replacement, for each fusion by itself.

    Wider than a paired interval, but blind to clips of one patient being alike.
    """
    if clips.before_PKK is None:
        return {}
    generator = numpy_generator(seed, "clip bootstrap")
    drawn = []
    for counts_PKK in (clips.before_PKK, clips.after_PKK):
        counts_KK = counts_PKK.sum(axis=0)
        num = counts_KK.sum()
        drawn_RC = generator.multinomial(num, counts_KK.ravel() / num, size=RESAMPLES)
        drawn.append(figures_of_draws(drawn_RC.reshape(-1, *counts_KK.shape), clips.labels))
    return _quantiles(drawn[0], drawn[1], clips)


def figures_of_draws(
    counts_RKK: NDArray[Any], labels: Sequence[str]
) -> Mapping[str, NDArray[np.float64]]:
    """Figures of every confusion (R); not a number for a label that does not occur."""
    true_RK, told_RK = counts_RKK.sum(axis=2), counts_RKK.sum(axis=1)
    hits_RK = np.diagonal(counts_RKK, axis1=1, axis2=2)
    with np.errstate(invalid="ignore"):
        recall_RK = np.where(true_RK > 0, hits_RK / true_RK, np.nan)
        f1_RK = np.where(true_RK > 0, 2 * hits_RK / (true_RK + told_RK), np.nan)
    recalls = {recall_of(label): recall_RK[:, k] for k, label in enumerate(labels)}
    return {
        "accuracy": hits_RK.sum(axis=1) / true_RK.sum(axis=1),
        "balanced_accuracy": np.nanmean(recall_RK, axis=1),
        "macro_f1": np.nanmean(f1_RK, axis=1),
        **recalls,
    }


def draw_patients(num: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """How often each of so many patients stands in each resample (R, P)."""
    return generator.multinomial(num, np.full(num, 1.0 / num), size=RESAMPLES).astype(float)


def recall_of(label: str) -> str:
    """Name of the figure."""
    return f"recall {label}"


def _quantiles(
    before: Mapping[str, NDArray[np.float64]],
    after: Mapping[str, NDArray[np.float64]],
    clips: PairedClips,
) -> dict[str, tuple[float, float]]:
    assert clips.before_PKK is not None
    there = figures(clips.before_PKK.sum(axis=0), clips.labels)
    intervals = {}
    for name in figures(clips.after_PKK.sum(axis=0), clips.labels):
        if name not in there:
            continue
        low, high = np.nanquantile(after[name] - before[name], INTERVAL)
        intervals[name] = (float(low), float(high))
    return intervals


def _count(fusion: FusionModel, held_out: DatasetRows, blocks: Sequence[Block]) -> Counts | None:
    rows = _as_seen_by(fusion.blocks, held_out, blocks)
    if not any(rows.available):
        return None
    told_NV = fuse_rows(fusion, rows).log_probabilities_NV
    told_NK = vocabulary_log_probabilities(told_NV, possible_views(rows, fusion.views))
    told_MK, label_M = by_clip(told_NK, rows.label_N, rows.clip_N)
    _, first_M = np.unique(rows.clip_N, return_index=True)
    patients, patient_M = np.unique(rows.patient_N[first_M], return_inverse=True)
    counts_PKK = np.zeros((len(patients), len(rows.labels), len(rows.labels)), dtype=np.int64)
    np.add.at(counts_PKK, (patient_M, label_M, told_MK.argmax(axis=1)), 1)
    return counts_PKK


def _as_seen_by(wanted: Sequence[Block], rows: DatasetRows, blocks: Sequence[Block]) -> DatasetRows:
    """The columns of a fusion's own experts; one that the rows lack is unavailable."""
    place = {block.expert: at for at, block in enumerate(blocks)}
    num = len(rows.label_N)

    def gather(
        arrays: Sequence[NDArray[np.float32]], widths: Sequence[int]
    ) -> tuple[NDArray[np.float32], ...]:
        return tuple(
            arrays[place[block.expert]]
            if block.expert in place
            else np.zeros((num, width), np.float32)
            for block, width in zip(wanted, widths, strict=True)
        )

    return replace(
        rows,
        available=tuple(
            block.expert in place and rows.available[place[block.expert]] for block in wanted
        ),
        features=gather(rows.features, [block.feature_width for block in wanted]),
        logits=gather(rows.logits, [len(block.views) for block in wanted]),
        evidence=gather(rows.evidence, [block.num_evidence for block in wanted]),
    )
