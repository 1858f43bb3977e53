"""What the seeds of one stream say together: means, deviations, the gain and the goals."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aggregator.benchmark import DEFAULT, ORACLES, PAPER
from aggregator.benchmark.goals import SCANNER_TARGETS, STREAM_TARGETS, Goal, judge
from aggregator.benchmark.intervals import Interval, gain_interval
from aggregator.benchmark.outside import Outside
from aggregator.benchmark.result import StreamResult, summary_table
from aggregator.benchmark.run import JOINT
from aggregator.benchmark.selective import RiskCoverage, risk_coverage
from aggregator.benchmark.stream import Step
from aggregator.fusion.scorecard import ID_SCALAR

FINAL = "macro_f1_final"
ORACLE = "oracle expert"
STATISTICS = f"{DEFAULT}, statistics"
CLOSED_FORM = "fused ridge"
"""The default where every site sends statistics only."""
_LABELS = frozenset({"stream", "seed", "origin", "method", "is_oracle"})  # no figures of a row


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over seeds; the deviation is None for one seed alone."""

    mean: float
    sd: float | None
    num_seeds: int


@dataclass(frozen=True, slots=True)
class MethodSummary:
    """A method on all seeds of a stream.

    Args:
        figures: by name, as in ``summary_table``; what no seed has is left out.
        by_dataset: clip macro-F1 after the last stage.
        gain: over the paper's best variant; None where that was not run.
    """

    method: str
    is_oracle: bool
    figures: dict[str, Spread]
    by_dataset: dict[str, Spread]
    gain: Interval | None


@dataclass(frozen=True, slots=True)
class StreamSummary:
    """All seeds of one stream, and of no other.

    Args:
        paper: the variant of the paper with the highest mean on the test clips themselves, which
            flatters it; empty where none was run.
        num_clips: test clips of a seed, the mean.
        auroc: source -> kind -> how well the id scalar or a detector tells what is foreign.
    """

    stream: str
    origin: str
    seeds: tuple[int, ...]
    datasets: tuple[str, ...]
    num_clips: float
    default: str
    paper: str
    methods: tuple[MethodSummary, ...]
    auroc: dict[str, dict[str, Spread]]
    goals: tuple[Goal, ...]

    def of(self, method: str) -> MethodSummary | None:
        """The summary of a method; None where it was not run."""
        return next((one for one in self.methods if one.method == method), None)


def summarise(
    results: Sequence[StreamResult],
    outsides: Sequence[Outside],
    steps: Sequence[Sequence[Step]],
) -> StreamSummary:
    """Put the seeds of a stream side by side.

    Args:
        results: one of each seed, the same methods in each.
        outsides: what is foreign, by seed; may be empty.
        steps: what making each seed's stream cost.
    """
    first = results[0]
    assert {(one.stream, one.origin) for one in results} == {(first.stream, first.origin)}
    methods = [one.method for one in first.methods]
    finals = {method: _mean_final(results, method) for method in methods}
    paper = max((one for one in PAPER if one in finals), key=finals.__getitem__, default="")
    summaries = tuple(_summarise_method(results, method, paper) for method in methods)
    by_name = {one.method: one for one in summaries}
    auroc = _spread_areas(outsides)
    measured = {
        **_measure_methods(by_name, paper),
        **_measure_areas(auroc),
        **_measure_seconds(by_name, steps),
    }
    return StreamSummary(
        stream=first.stream,
        origin=first.origin,
        seeds=tuple(one.seed for one in results),
        datasets=first.datasets,
        num_clips=statistics.fmean(_num_clips(one) for one in results),
        default=DEFAULT,
        paper=paper,
        methods=summaries,
        auroc=auroc,
        goals=judge(measured, (*STREAM_TARGETS, SCANNER_TARGETS[first.origin])),
    )


def spread(values: Iterable[float]) -> Spread | None:
    """Mean and deviation of what is a number; None where nothing is."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return None
    return Spread(
        statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None, len(known)
    )


def do_share_patients(origin: str) -> bool:
    """Whether seeds may test the same patients; each seed of a phantom draws its own."""
    return origin == "real"


def increments(results: Sequence[StreamResult], method: str) -> NDArray[np.float64]:
    """Clip macro-F1 after every stage (T): mean over the datasets that have come, and seeds."""
    by_seed = []
    for result in results:
        scores_TI = result.of(method).matrix("macro_f1")
        has_come_TI = np.tri(len(scores_TI), dtype=np.bool_) & ~np.isnan(scores_TI)
        sums_T = np.where(has_come_TI, scores_TI, 0.0).sum(axis=1)
        with np.errstate(invalid="ignore"):
            by_seed.append(sums_T / has_come_TI.sum(axis=1))
    mean_T: NDArray[np.float64] = np.mean(by_seed, axis=0)
    return mean_T


def pooled_risk(results: Sequence[StreamResult], method: str) -> RiskCoverage:
    """Risk against coverage after the last stage, the clips of all datasets and seeds together."""
    finals = [final for result in results for final in result.of(method).final.finals]
    certainty = [value for final in finals for value in final.certainty]
    is_right = [
        told == true for final in finals for told, true in zip(final.told, final.true, strict=True)
    ]
    return risk_coverage(np.array(certainty), np.array(is_right))


def _mean_final(results: Sequence[StreamResult], method: str) -> float:
    return statistics.fmean(one.of(method).continual("macro_f1").final for one in results)


def _num_clips(result: StreamResult) -> int:
    return sum(len(final.true) for final in result.methods[0].final.finals)


def _summarise_method(results: Sequence[StreamResult], method: str, paper: str) -> MethodSummary:
    rows = [row for row in summary_table(results) if row["method"] == method]
    found = {
        name: spread(float(row[name]) for row in rows if row[name] != "")
        for name in rows[0]
        if name not in _LABELS
    }
    scores = [
        {score.dataset: score.macro_f1 for score in one.of(method).final.scores} for one in results
    ]
    by_dataset = {
        name: spread(by_name[name] for by_name in scores if name in by_name)
        for name in results[0].datasets
    }
    gain = None
    if paper and method != paper:
        gain = gain_interval(
            [(one.of(method), one.of(paper)) for one in results],
            "macro_f1",
            share_patients=do_share_patients(results[0].origin),
        )
    return MethodSummary(
        method=method,
        is_oracle=method in ORACLES,
        figures={name: one for name, one in found.items() if one is not None},
        by_dataset={name: one for name, one in by_dataset.items() if one is not None},
        gain=gain,
    )


def _spread_areas(outsides: Sequence[Outside]) -> dict[str, dict[str, Spread]]:
    sources = dict.fromkeys(source for one in outsides for source in one.auroc)
    areas: dict[str, dict[str, Spread]] = {}
    for source in sources:
        for kind in ("new scanner", "unseen view"):
            values = [one.auroc.get(source, {}) for one in outsides]
            found = spread(by_kind[kind] for by_kind in values if kind in by_kind)
            if found is not None:
                areas.setdefault(source, {})[kind] = found
    return areas


def _measure_methods(by_name: Mapping[str, MethodSummary], paper: str) -> dict[str, float]:
    """Figures of the goals that the default's scores tell; points are hundredths."""
    default = by_name.get(DEFAULT)
    if default is None:
        return {}
    measured = {}
    if "calibration_excess" in default.figures:
        measured["ece_excess"] = default.figures["calibration_excess"].mean
    if "macro_f1_forgetting" in default.figures:
        measured["forgetting"] = 100 * default.figures["macro_f1_forgetting"].mean
    reached = default.figures[FINAL].mean
    if STATISTICS in by_name:
        measured["statistics_loss"] = 100 * (reached - by_name[STATISTICS].figures[FINAL].mean)
    if JOINT in by_name:
        measured["behind_joint"] = 100 * (by_name[JOINT].figures[FINAL].mean - reached)
    if default.gain is not None:
        measured["gain_low"] = 100 * default.gain.low
    if paper and ORACLE in by_name:
        before = by_name[paper].figures[FINAL].mean
        gap = max(by_name[ORACLE].figures[FINAL].mean - before, 0.0)
        measured["half_gap"] = 100 * (reached - before - gap / 2)
    return measured


def _measure_areas(auroc: Mapping[str, Mapping[str, Spread]]) -> dict[str, float]:
    """How well the id scalar tells what is foreign, and by how much better than any detector."""
    own = auroc.get(ID_SCALAR, {})
    measured = {}
    if "unseen view" in own:
        measured["auroc_view"] = own["unseen view"].mean
    if "new scanner" in own:
        measured["auroc_scanner"] = own["new scanner"].mean
        others = [
            one["new scanner"].mean
            for source, one in auroc.items()
            if source != ID_SCALAR and "new scanner" in one
        ]
        if others:
            measured["auroc_margin"] = own["new scanner"].mean - max(others)
    return measured


def _measure_seconds(
    by_name: Mapping[str, MethodSummary], steps: Sequence[Sequence[Step]]
) -> dict[str, float]:
    """CPU seconds of training on pooled images by those of the last update of the default.

    An update is the new expert's look at every dataset and every expert's look at the new one, the
    sites' processes with it, and the fit and the scores; training the new expert is not in it.
    """
    default, head = by_name.get(DEFAULT), by_name.get(CLOSED_FORM)
    joint = _cpu_seconds(steps, "joint: train")
    measured = {}
    if head is not None and "fit_cpu_s" in head.figures and joint:
        measured["cpu_ratio_head"] = joint / head.figures["fit_cpu_s"].mean
    if default is not None and "fit_cpu_s" in default.figures and joint:
        fit, tell = (default.figures[name].mean for name in ("fit_cpu_s", "tell_cpu_s"))
        looks = _cpu_seconds(steps, ": export features") * _share_of_update(steps[0])
        measured["cpu_ratio"] = joint / (looks + fit + tell)
    return measured


def _share_of_update(steps: Sequence[Step]) -> float:
    """What share of all looks at a dataset by an expert the last dataset to come asks for."""
    num_experts = sum(one.step.endswith(": train") for one in steps)  # the joint one too
    num_looks = num_experts * sum(one.step.endswith(": export features") for one in steps)
    return (2 * (num_experts - 1) - 1) / num_looks


def _cpu_seconds(steps: Sequence[Sequence[Step]], ending: str) -> float:
    """Of all steps whose name ends so, the mean over seeds."""
    sums = [sum(s.cpu_seconds for s in one if s.step.endswith(ending)) for one in steps]
    return statistics.fmean(sums) if sums else 0.0
