"""A run: every stage scored, a second run reads, and clips tell what the scores tell."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aggregator.benchmark import METHODS
from aggregator.benchmark.result import (
    FIGURES,
    STREAM_RESULT_VERSION,
    StreamResult,
    recall_table,
    score_table,
    summary_table,
)
from aggregator.benchmark.run import JOINT, RESULTS_FOLDER, num_units, run_stream
from aggregator.benchmark.stage import Stage, Teller
from aggregator.benchmark.stream import Stream
from shared.echo.schema import from_document, to_document
from shared.errors import Code, EchoFedError

RIDGE = ("fused ridge",)


@pytest.fixture
def stream(world_stream: Stream, tmp_path: Path) -> Stream:
    """The stream in a folder without any result."""
    return replace(world_stream, folder=tmp_path / "stream")


@pytest.fixture(scope="module")
def ridge_result(world_stream: Stream) -> StreamResult:
    return run_stream(world_stream, RIDGE)


def test_every_dataset_is_scored_at_every_stage(ridge_result: StreamResult) -> None:
    found = ridge_result.of("fused ridge")
    for figure in FIGURES:
        scores_TI = found.matrix(figure)
        assert scores_TI.shape == (3, 3)
        assert not np.isnan(scores_TI).any()
        assert np.diagonal(scores_TI).min() > np.diagonal(scores_TI, offset=1).max()


def test_clips_of_the_last_stage_tell_what_its_scores_tell(ridge_result: StreamResult) -> None:
    stage = ridge_result.of("fused ridge").final
    for score, clips in zip(stage.scores, stage.finals, strict=True):
        true_M, told_M = np.array(clips.true), np.array(clips.told)
        assert len(clips.patients) == len(true_M) == score.num_clips
        assert (true_M == told_M).mean() == pytest.approx(score.accuracy)
        for label, recall in score.recalls.items():
            of_label_M = true_M == clips.labels.index(label)
            assert (told_M == true_M)[of_label_M].mean() == pytest.approx(recall)


def test_a_second_run_reads_what_the_first_found(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    units: list[int] = []
    first = run_stream(stream, RIDGE, lambda num, note: units.append(num))
    assert sum(units) == num_units(stream, RIDGE)
    monkeypatch.setattr(type(stream.bank), "join", None)
    assert run_stream(stream, RIDGE) == first


def test_a_run_that_was_cut_short_goes_on(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(Exception):
        pass

    def die_at_second_stage(units: int, note: str) -> None:
        if note.endswith("2"):
            raise Killed

    with pytest.raises(Killed):
        run_stream(stream, RIDGE, die_at_second_stage)
    stages: list[int] = []
    fit = METHODS["fused ridge"]

    def fit_and_count(stage: Stage) -> Teller:
        stages.append(len(stage.joined.datasets))
        return fit(stage)

    monkeypatch.setattr("aggregator.benchmark.fusions.fit_ridge_fusion", fit_and_count)
    run_stream(stream, RIDGE)
    assert stages == [3]


def test_another_version_of_the_methods_is_run_again(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_stream(stream, RIDGE)
    monkeypatch.setattr("aggregator.benchmark.run.METHOD_VERSION", -1)
    run_stream(stream, RIDGE)
    assert len(list((stream.folder / RESULTS_FOLDER).iterdir())) == 6


def test_the_network_of_pooled_images_is_scored_after_the_last_stage(stream: Stream) -> None:
    expert = stream.record.arrivals[-1].expert
    arrivals = tuple(one for one in stream.record.arrivals if one.expert != expert)
    joint = replace(stream, record=replace(stream.record, arrivals=arrivals, joint=expert))
    found = run_stream(joint, RIDGE)
    final = found.of(JOINT).final
    assert [one.dataset for one in final.finals] == list(found.datasets)
    assert np.isnan(found.of(JOINT).matrix("accuracy")[0]).all()
    for mine, theirs in zip(final.finals, found.of("fused ridge").final.finals, strict=True):
        assert mine.patients == theirs.patients
        assert mine.true == theirs.true


def test_a_result_is_json_and_rows(ridge_result: StreamResult) -> None:
    document = json.loads(json.dumps(to_document(ridge_result)))
    assert from_document(StreamResult, document, version=STREAM_RESULT_VERSION) == ridge_result
    assert len(score_table([ridge_result])) == 9
    assert len(summary_table([ridge_result])) == 1
    recalls = recall_table([ridge_result])
    assert {str(row["views"]) for row in recalls} >= {"A4C", "PLAX"}


def test_a_method_that_nobody_knows_is_refused(world_stream: Stream) -> None:
    with pytest.raises(EchoFedError) as caught:
        run_stream(world_stream, ("fused rigde",))
    assert caught.value.code == Code.NAME_UNKNOWN
