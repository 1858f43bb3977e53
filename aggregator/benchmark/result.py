"""What a run of the benchmark finds: plain values that are stored as JSON and printed as rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from aggregator.benchmark.continual import ContinualFigures, continual_figures
from shared.errors import Code, EchoFedError

STAGE_RESULT_VERSION = 1
STREAM_RESULT_VERSION = 1
Figure = Literal["macro_f1", "accuracy"]
FIGURES: tuple[Figure, ...] = ("macro_f1", "accuracy")


@dataclass(frozen=True, slots=True)
class StageScore:
    """A method on the test clips of one dataset, in the dataset's own words.

    Args:
        recalls: by label.
    """

    dataset: str
    num_clips: int
    macro_f1: float
    accuracy: float
    recalls: dict[str, float]


@dataclass(frozen=True, slots=True)
class FinalClips:
    """What a method told of each test clip of one dataset after the last stage.

    Args:
        labels: the dataset's own words.
        label_views: views that each label stands for.
        patients: of each clip, numbered from 0 on; the same in every method's result.
        true: of each clip the place of its label among ``labels``.
        told: the place of the label that was told.
        certainty: its probability, the geometric mean over the frames of each clip.
        calibration_error: expected calibration error of the clips' probabilities.
        calibration_expected: what it is on average for so many clips if all are true.
    """

    dataset: str
    labels: tuple[str, ...]
    label_views: tuple[tuple[str, ...], ...]
    patients: tuple[int, ...]
    true: tuple[int, ...]
    told: tuple[int, ...]
    certainty: tuple[float, ...]
    calibration_error: float
    calibration_expected: float


@dataclass(frozen=True, slots=True)
class StageResult:
    """A method after one stage, as it is stored.

    Args:
        fit_cpu_seconds: None where nothing was fitted.
        tell_cpu_seconds: for all rows of all datasets, of those that had not come yet too.
        scores: by dataset; what a method could not tell is not there.
        finals: by dataset, after the last stage only.
    """

    method: str
    stage: int
    fit_cpu_seconds: float | None
    tell_cpu_seconds: float
    scores: tuple[StageScore, ...]
    finals: tuple[FinalClips, ...]
    version: int = STAGE_RESULT_VERSION


@dataclass(frozen=True, slots=True)
class MethodResult:
    """A method on a stream.

    Args:
        is_oracle: told what no deployed method can know.
        datasets: those of the stream, in the order in which they came.
        stages: in order; of the network trained on pooled images the last one only.
    """

    method: str
    is_oracle: bool
    datasets: tuple[str, ...]
    stages: tuple[StageResult, ...]

    @property
    def final(self) -> StageResult:
        """What stands after the last stage."""
        return self.stages[-1]

    def matrix(self, figure: Figure) -> NDArray[np.float64]:
        """Scores by stage and dataset (T, I); not a number where there is none."""
        scores_TI = np.full((len(self.datasets), len(self.datasets)), np.nan)
        for stage in self.stages:
            for score in stage.scores:
                place = self.datasets.index(score.dataset)
                scores_TI[stage.stage - 1, place] = getattr(score, figure)
        return scores_TI

    def continual(self, figure: Figure) -> ContinualFigures:
        """Figures of learning one dataset after the other."""
        return continual_figures(self.matrix(figure))

    def calibration_excess(self) -> float:
        """Calibration error minus the expected one, the mean over datasets."""
        gaps = [one.calibration_error - one.calibration_expected for one in self.final.finals]
        return float(np.mean(gaps)) if gaps else float("nan")


@dataclass(frozen=True, slots=True)
class StreamResult:
    """All methods on a stream.

    Args:
        datasets: those that are learned from, in the order in which they came.
        methods: in the order asked for, then the network trained on pooled images if there is one.
    """

    stream: str
    seed: int
    origin: str
    recipe: str
    datasets: tuple[str, ...]
    methods: tuple[MethodResult, ...]
    version: int = STREAM_RESULT_VERSION

    def of(self, method: str) -> MethodResult:
        """The result of one method.

        Raises:
            EchoFedError: NAME_UNKNOWN where it was not run.
        """
        for one in self.methods:
            if one.method == method:
                return one
        known = ", ".join(one.method for one in self.methods)
        raise EchoFedError(
            Code.NAME_UNKNOWN, f"method {method!r} was not run on this stream", f"known: {known}"
        )


Row = dict[str, str | int | float]
"""A line of a table; a value that is not there is left empty."""


def score_table(results: Sequence[StreamResult]) -> list[Row]:
    """A line per stream, method, stage and dataset."""
    return [
        {
            "stream": result.stream,
            "seed": result.seed,
            "origin": result.origin,
            "method": method.method,
            "stage": stage.stage,
            "dataset": score.dataset,
            "has_come": int(result.datasets.index(score.dataset) < stage.stage),
            "clips": score.num_clips,
            "macro_f1": score.macro_f1,
            "accuracy": score.accuracy,
        }
        for result in results
        for method in result.methods
        for stage in method.stages
        for score in stage.scores
    ]


def recall_table(results: Sequence[StreamResult]) -> list[Row]:
    """A line per stream, method, dataset and label after the last stage."""
    views_of = {
        (result.stream, result.seed, final.dataset, label): "|".join(views)
        for result in results
        for method in result.methods
        for final in method.final.finals
        for label, views in zip(final.labels, final.label_views, strict=True)
    }
    return [
        {
            "stream": result.stream,
            "seed": result.seed,
            "origin": result.origin,
            "method": method.method,
            "dataset": score.dataset,
            "label": label,
            "views": views_of[result.stream, result.seed, score.dataset, label],
            "recall": recall,
        }
        for result in results
        for method in result.methods
        for score in method.final.scores
        for label, recall in score.recalls.items()
    ]


def summary_table(results: Sequence[StreamResult]) -> list[Row]:
    """A line per stream and method: continual figures, calibration and CPU seconds."""
    return [
        {
            "stream": result.stream,
            "seed": result.seed,
            "origin": result.origin,
            "method": method.method,
            "is_oracle": int(method.is_oracle),
            **_continual_cells(method),
            "calibration_excess": _cell(method.calibration_excess()),
            "fit_cpu_s": ""
            if method.final.fit_cpu_seconds is None
            else method.final.fit_cpu_seconds,
            "tell_cpu_s": method.final.tell_cpu_seconds,
        }
        for result in results
        for method in result.methods
    ]


def _continual_cells(method: MethodResult) -> Row:
    cells: Row = {}
    for figure in FIGURES:
        found = method.continual(figure)
        cells[f"{figure}_final"] = _cell(found.final)
        cells[f"{figure}_average_incremental"] = _cell(found.average_incremental)
        cells[f"{figure}_forgetting"] = _cell(found.forgetting)
        cells[f"{figure}_backward_transfer"] = _cell(found.backward_transfer)
        cells[f"{figure}_forward_transfer"] = _cell(found.forward_transfer)
    return cells


def _cell(value: float | None) -> float | str:
    return "" if value is None or np.isnan(value) else float(value)
