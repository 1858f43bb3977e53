"""Seeds side by side: closed forms of means, increments and goals; tables show what is summed."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from aggregator.benchmark import DEFAULT, ORACLES, PAPER
from aggregator.benchmark.outside import Outside
from aggregator.benchmark.result import (
    FinalClips,
    MethodResult,
    StageResult,
    StageScore,
    StreamResult,
)
from aggregator.benchmark.run import JOINT
from aggregator.benchmark.stream import Step
from aggregator.benchmark.summary import (
    CLOSED_FORM,
    FINAL,
    ORACLE,
    STATISTICS,
    Spread,
    increments,
    pooled_risk,
    spread,
    summarise,
)
from aggregator.benchmark.tables import markdown, sheets_of, show
from aggregator.fusion.scorecard import ID_SCALAR
from shared.metrics import score_labels

DATASETS = ("north/echo", "south/echo")
TRUE = np.tile([0, 1], 20)


def method_of(name: str, wrong: Sequence[int]) -> MethodResult:
    """A method that tells so many of 40 clips of each dataset wrong, by stage."""
    stages = []
    for stage, num_wrong in enumerate(wrong, start=1):
        told = np.where(np.arange(40) < num_wrong, 1 - TRUE, TRUE)
        scored = score_labels(np.eye(2)[told], TRUE, ("a", "b"))
        scores = [
            StageScore(one, 40, scored.macro_f1, scored.accuracy, scored.recall) for one in DATASETS
        ]
        clips = [
            FinalClips(
                dataset=one,
                labels=("a", "b"),
                label_views=(("A4C",), ("A2C",)),
                patients=tuple(range(40)),
                true=tuple(TRUE.tolist()),
                told=tuple(told.tolist()),
                certainty=tuple(np.linspace(0.5, 1.0, 40).tolist()),
                calibration_error=0.03,
                calibration_expected=0.01,
            )
            for one in DATASETS
        ]
        is_last = stage == len(DATASETS)
        stages.append(
            StageResult(name, stage, 2.0, 1.0, tuple(scores), tuple(clips) if is_last else ())
        )
    return MethodResult(name, name in ORACLES, DATASETS, tuple(stages))


def stream_of(
    methods: Mapping[str, Sequence[int]], *, seed: int = 1, origin: str = "phantom"
) -> StreamResult:
    found = tuple(method_of(name, wrong) for name, wrong in methods.items())
    return StreamResult("toy", seed, origin, "", DATASETS, found)


WRONG = {
    DEFAULT: (0, 4),
    STATISTICS: (0, 6),
    CLOSED_FORM: (0, 6),
    PAPER[0]: (0, 8),
    PAPER[1]: (0, 12),
    ORACLE: (0, 2),
    JOINT: (0, 4),
}
OUTSIDE = Outside(
    np.zeros(3),
    {"new scanner": np.zeros(2)},
    {ID_SCALAR: {"new scanner": 0.97}, "nearest vim": {"new scanner": 0.98}},
)


def test_a_spread_is_mean_and_deviation_of_what_is_a_number() -> None:
    assert spread([1.0, 3.0, math.nan]) == Spread(2.0, math.sqrt(2), 2)
    assert spread([1.0]) == Spread(1.0, None, 1)
    assert spread([math.nan]) is None
    assert (show(spread([1.0, 3.0])), show(spread([1.0])), show(None)) == (
        "2.000 ± 1.414",
        "1.000",
        "-",
    )


def test_increments_are_means_over_what_has_come_and_over_seeds() -> None:
    seeds = [stream_of({DEFAULT: (0, 4)}), stream_of({DEFAULT: (40, 4)}, seed=2)]
    np.testing.assert_allclose(increments(seeds, DEFAULT), [0.5, 0.9], atol=1e-3)


def test_what_was_not_scored_at_a_stage_is_no_number() -> None:
    whole = method_of(JOINT, (0, 4))
    joint = MethodResult(JOINT, False, DATASETS, whole.stages[-1:])
    only_last = StreamResult("toy", 1, "phantom", "", DATASETS, (joint,))
    np.testing.assert_allclose(increments([only_last], JOINT), [math.nan, 0.9], atol=1e-3)


def test_risk_is_pooled_over_datasets_and_seeds() -> None:
    curve = pooled_risk([stream_of({DEFAULT: (0, 4)})] * 3, DEFAULT)
    assert len(curve.risk_N) == 2 * 3 * 40
    assert curve.accuracy_at(1.0) == pytest.approx(0.9)
    assert curve.accuracy_at(0.9) == pytest.approx(1.0)  # the least certain are the wrong ones


def test_the_best_of_the_papers_variants_is_what_all_are_held_against() -> None:
    summary = summarise([stream_of(WRONG), stream_of(WRONG, seed=2)], [], [])
    assert summary.paper == PAPER[0]
    gains = {one.method: one.gain for one in summary.methods}
    assert gains[PAPER[0]] is None
    mine, theirs = gains[DEFAULT], gains[PAPER[1]]
    assert mine is not None
    assert theirs is not None
    assert mine.value == pytest.approx(0.1, abs=2e-3)
    assert mine.low > 0 > theirs.high
    figures = {one.method: one.figures[FINAL] for one in summary.methods}
    assert figures[DEFAULT].mean - figures[PAPER[0]].mean == pytest.approx(mine.value)


def test_goals_are_told_from_scores_and_seconds_where_these_are_there() -> None:
    steps = [Step("joint: train", 1, 90.0)]
    for site in ("north", "south"):  # three experts look at two datasets: half of it is an update
        steps += [Step(f"{site}: train", 1, 9.0), Step(f"{site}: export features", 1, 1.5)]
    summary = summarise([stream_of(WRONG)], [OUTSIDE], [steps])
    found = {goal.goal.split(":")[0]: goal for goal in summary.goals}
    expected = {
        "points behind joint training on pooled images": (0.0, "yes"),
        "points over the middle of paper's best and oracle expert": (2.5, "yes"),
        "calibration error beyond chance": (0.02, "yes"),
        "AUROC of the id scalar, new scanner": (0.97, "yes"),
        "CPU seconds, joint training by update of the fusion": (90 / 4.5, "yes"),
        "CPU seconds, joint training by fit of the head": (45.0, "no"),
        "forgetting, points": (10.0, "no"),
        "points lost where all sites send statistics": (5.0, "no"),
    }
    for what, (value, reached) in expected.items():
        assert found[what].measured == pytest.approx(value, abs=0.1), what
        assert found[what].reached == reached, what
    assert found["AUROC of the id scalar, unseen view"].reached == "not measured"


def test_on_real_rows_the_id_scalar_is_held_against_the_best_detector() -> None:
    summary = summarise([stream_of(WRONG, origin="real")], [OUTSIDE], [])
    assert summary.goals[-1].measured == pytest.approx(-0.01)
    assert summary.goals[-1].reached == "no"


def test_without_the_default_or_the_paper_its_goals_are_not_measured() -> None:
    summary = summarise([stream_of({ORACLE: (0, 2)})], [], [])
    assert summary.paper == ""
    assert {goal.reached for goal in summary.goals} == {"not measured"}
    assert summary.methods[0].gain is None


def test_every_row_of_every_table_says_phantom_or_real() -> None:
    phantom = summarise([stream_of(WRONG)], [OUTSIDE], [])
    real = summarise([stream_of(WRONG, origin="real")], [OUTSIDE], [])
    for summary in (phantom, real):
        for sheet in sheets_of(summary):
            assert sheet.columns[1] == "rows"
            assert {row[1] for row in sheet.rows} == {summary.origin}
    text = markdown("Stream toy (real)", sheets_of(real), ("toy-increments.png",))
    assert text.startswith("### Stream toy (real)\n\n![toy-increments](toy-increments.png)\n")
    assert text.count("| real |") == sum(len(sheet.rows) for sheet in sheets_of(real))
    assert "phantom" not in text


def test_streams_of_two_origins_are_never_summed() -> None:
    with pytest.raises(AssertionError):
        summarise([stream_of(WRONG), stream_of(WRONG, origin="real")], [], [])
