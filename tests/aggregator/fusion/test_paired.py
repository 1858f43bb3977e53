"""Two fusions on the same clips: the house's figures, and intervals that behave."""

from dataclasses import replace

import numpy as np
import pytest

from aggregator.fusion.evaluate import fuse_rows, score_rows
from aggregator.fusion.fit import fit_union_head
from aggregator.fusion.paired import (
    PairedClips,
    clip_intervals,
    figures,
    pair_clips,
    patient_intervals,
)
from aggregator.fusion.rows import held_out_rows
from aggregator.joined_rows import JoinedRows
from shared.models.union_head import UnionHead


@pytest.fixture(scope="module")
def head(joined: JoinedRows) -> UnionHead:
    return fit_union_head(joined, held_out_rows(joined), balance=True)


def pair(joined: JoinedRows, before: UnionHead | None, after: UnionHead) -> PairedClips:
    clips = pair_clips(joined.datasets[0], joined, before=before, after=after)
    assert clips is not None
    return clips


def test_figures_are_those_of_the_houses_scores(joined: JoinedRows, head: UnionHead) -> None:
    rows = joined.datasets[0]
    told_NV = fuse_rows(head, rows).log_probabilities_NV
    scores = score_rows(rows, told_NV, head.views)
    assert scores is not None
    clips = pair(joined, head, head)
    found = figures(clips.after_PKK.sum(axis=0), clips.labels)
    recalls = {f"recall {label}": value for label, value in scores.clips.recall.items()}
    expected = {
        name: getattr(scores.clips, name) for name in ("accuracy", "balanced_accuracy", "macro_f1")
    }
    assert found == pytest.approx(expected | recalls)
    assert clips.after_PKK.sum() == scores.clips.num


def test_every_patient_stands_alone(joined: JoinedRows, head: UnionHead) -> None:
    clips = pair(joined, None, head)
    assert clips.before_PKK is None
    assert (clips.after_PKK.sum(axis=(1, 2)) == 1).all()  # in this world a clip is a patient


def test_equal_fusions_differ_by_nothing_whoever_is_drawn(
    joined: JoinedRows, head: UnionHead
) -> None:
    intervals = patient_intervals(pair(joined, head, head), seed=1)
    assert set(intervals.values()) == {(0.0, 0.0)}
    assert patient_intervals(pair(joined, None, head), seed=1) == {}


def test_an_expert_whose_exports_are_gone_counts_as_unavailable(
    joined: JoinedRows, head: UnionHead
) -> None:
    fewer = replace(
        joined,
        blocks=joined.blocks[:2],
        datasets=tuple(
            replace(
                rows,
                available=rows.available[:2],
                features=rows.features[:2],
                logits=rows.logits[:2],
                evidence=rows.evidence[:2],
            )
            for rows in joined.datasets
        ),
    )
    masked = replace(joined.datasets[0], available=(True, True, False))
    told_NV = fuse_rows(head, masked).log_probabilities_NV
    scores = score_rows(masked, told_NV, head.views)
    assert scores is not None
    clips = pair(fewer, None, head)
    assert clips.after_PKK.sum(axis=0).tolist() == [list(row) for row in scores.clips.confusion]


def test_a_dataset_without_test_rows_or_seeing_experts_has_no_figures(
    joined: JoinedRows, head: UnionHead
) -> None:
    rows = joined.datasets[0]
    untested = replace(rows, split_N=np.zeros_like(rows.split_N))
    unseen = replace(rows, available=(False,) * 3)
    for some in (untested, unseen):
        assert pair_clips(some, joined, before=None, after=head) is None


@pytest.mark.parametrize("seed", range(3))
def test_intervals_hold_the_difference_and_narrow_with_more_patients(seed: int) -> None:
    generator = np.random.default_rng(seed)

    def width(num: int) -> float:
        told = generator.random((2, num)) < np.array([[0.9], [0.7]])
        counts = np.zeros((2, num, 2, 2), dtype=np.int64)
        for fusion, patient in np.ndindex(2, num):
            counts[fusion, patient, 0, int(not told[fusion, patient])] = 1
            counts[fusion, patient, 1, 1] = 1
        clips = PairedClips(("a", "b"), (("A4C",), ("A2C",)), counts[0], counts[1])
        change = told[1].mean() - told[0].mean()
        for intervals in (patient_intervals(clips, seed=seed), clip_intervals(clips, seed=seed)):
            low, high = intervals["recall a"]
            assert low <= change <= high
        return float(np.subtract(*patient_intervals(clips, seed=seed)["recall a"][::-1]))

    assert width(400) < 0.5 * width(25)
