"""Run methods on a stored stream: fit at every stage, score every dataset, store what was found.

Each method's stage is stored under the stream's folder by the hash of all that it depends on, so a
second run reads, and one that was cut short goes on.
"""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from aggregator.benchmark import METHODS, ORACLES
from aggregator.benchmark.alone import AloneTeller
from aggregator.benchmark.result import (
    STAGE_RESULT_VERSION,
    FinalClips,
    MethodResult,
    StageResult,
    StageScore,
    StreamResult,
)
from aggregator.benchmark.stage import Stage, Teller
from aggregator.benchmark.stream import Stream
from aggregator.feature_bank import dataset_name
from aggregator.fusion.evaluate import calibrate_rows, is_scored, score_rows
from aggregator.joined_rows import DatasetRows, select_rows
from shared.console import Advance
from shared.echo.label_sets import possible_views
from shared.echo.schema import from_document, to_document
from shared.files import read_json, sha256_hex, write_json
from shared.metrics import by_clip, vocabulary_log_probabilities

METHOD_VERSION = 2
"""Raised when a method, or the way in which all are scored, changes its figures."""
JOINT = "joint images"
"""The network that was trained on the pooled images of all datasets."""
RESULTS_FOLDER = "results"


def num_units(stream: Stream, methods: Sequence[str]) -> int:
    """How far ``run_stream`` advances in all."""
    return len(stream.arrivals()) * len(methods) + bool(stream.record.joint)


def run_stream(
    stream: Stream, methods: Sequence[str], progress: Advance = lambda units, note: None
) -> StreamResult:
    """Fit and score every method at every stage.

    Args:
        stream: stored exports.
        methods: names in ``METHODS``.
        progress: told after every stage of a method.

    Raises:
        EchoFedError: NAME_UNKNOWN, and what the bank and the methods raise.
    """
    for method in methods:
        METHODS[method]
    record, datasets = stream.record, tuple(one.name for one in stream.arrivals())
    stages: dict[str, list[StageResult]] = {method: [] for method in methods}
    for number in range(1, len(datasets) + 1):
        for found in _run_stage(stream, methods, number):
            stages[found.method].append(found)
            progress(1, f"{found.method}, stage {number}")
    if record.joint:
        stages[JOINT] = [_run_joint(stream)]
        progress(1, JOINT)
    return StreamResult(
        stream=record.name,
        seed=record.seed,
        origin=record.origin,
        recipe=record.recipe,
        datasets=datasets,
        methods=tuple(
            MethodResult(method, method in ORACLES, datasets, tuple(found))
            for method, found in stages.items()
        ),
    )


def _run_stage(stream: Stream, methods: Sequence[str], number: int) -> Iterator[StageResult]:
    """Every method at one stage; exports are read only where a result is not stored yet."""
    read: tuple[Stage, tuple[DatasetRows, ...]] | None = None
    for method in methods:
        path = _path(stream, method, number)
        if not path.is_file():
            read = read or (stream.stage(number), _all_rows(stream, number))
            stage, datasets = read
            with threadpool_limits(1):  # waiting threads would count as CPU seconds
                begun = time.process_time()
                teller = METHODS[method](stage)
                seconds = time.process_time() - begun
                found = _score(teller, datasets, method=method, number=number, of=stream)
            write_json(path, to_document(replace(found, fit_cpu_seconds=seconds)))
        yield _read(path)


def _run_joint(stream: Stream) -> StageResult:
    """The network that was trained on pooled images tells by its own head."""
    known, joint = stream.arrivals(), stream.record.joint
    path = _path(stream, joint, len(known))
    if not path.is_file():
        # beside the experts, so that clips and patients get the same numbers
        joined = stream.bank.join(
            [*(one.expert for one in known), joint], {one.name: one.content for one in known}
        )
        teller = AloneTeller(joined.blocks, {one.name: joint for one in known})
        found = _score(teller, joined.datasets, method=JOINT, number=len(known), of=stream)
        write_json(path, to_document(found))
    return _read(path)


def _all_rows(stream: Stream, number: int) -> tuple[DatasetRows, ...]:
    """Every dataset, come or not, as the experts of a stage see it."""
    arrivals = stream.arrivals()
    experts = [one.expert for one in arrivals[:number]]
    return stream.bank.join(experts, {one.name: one.content for one in arrivals}).datasets


def _score(
    teller: Teller, datasets: Sequence[DatasetRows], *, method: str, number: int, of: Stream
) -> StageResult:
    """Score what a method tells of each dataset; after the last stage clip by clip."""
    begun = time.process_time()
    told = [teller.tell(rows) for rows in datasets]
    seconds = time.process_time() - begun
    scores, finals = [], []
    for rows, told_NV in zip(datasets, told, strict=True):
        scored = None if np.isnan(told_NV).any() else score_rows(rows, told_NV, teller.views)
        if scored is None:
            continue
        clips = scored.clips
        scores.append(
            StageScore(rows.name, clips.num, clips.macro_f1, clips.accuracy, clips.recall)
        )
        if number == len(of.arrivals()):
            finals.append(_final_clips(rows, told_NV, teller.views))
    return StageResult(method, number, None, seconds, tuple(scores), tuple(finals))


def _final_clips(
    rows: DatasetRows, told_NV: NDArray[np.float64], views: Sequence[str]
) -> FinalClips:
    kept_N = is_scored(rows, "test")
    kept = select_rows(rows, kept_N)
    told_NK = vocabulary_log_probabilities(told_NV[kept_N], possible_views(rows, views))
    told_MK, label_M = by_clip(told_NK, kept.label_N, kept.clip_N)
    _, first_M = np.unique(kept.clip_N, return_index=True)
    _, patient_M = np.unique(kept.patient_N[first_M], return_inverse=True)
    calibrated = calibrate_rows(rows, told_NV, views)
    assert calibrated is not None  # there are scored rows
    return FinalClips(
        dataset=rows.name,
        labels=rows.labels,
        label_views=rows.label_views,
        patients=tuple(patient_M.tolist()),
        true=tuple(label_M.tolist()),
        told=tuple(told_MK.argmax(axis=1).tolist()),
        certainty=tuple(np.exp(told_MK.max(axis=1)).tolist()),
        calibration_error=calibrated.error,
        calibration_expected=calibrated.expected,
    )


def _path(stream: Stream, method: str, number: int) -> Path:
    """Where a method's stage is stored: by the hash of all exports, the method and its version."""
    names = {one.name for one in stream.record.arrivals}
    exports = sorted(
        entry.sha256 for entry in stream.bank.entries() if dataset_name(entry.card) in names
    )
    arrivals = [to_document(one) for one in stream.arrivals()]
    told = [stream.record.seed, arrivals, exports, method, number, METHOD_VERSION]
    digest = sha256_hex(json.dumps(told, sort_keys=True).encode())
    return stream.folder / RESULTS_FOLDER / f"{digest}.json"


def _read(path: Path) -> StageResult:
    return from_document(StageResult, read_json(path), version=STAGE_RESULT_VERSION)
