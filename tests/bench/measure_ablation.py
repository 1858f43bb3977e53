"""What each part of the blend brings on stored streams, into ablation.csv; all datasets known.

Run after ``make streams``: ``python tests/bench/measure_ablation.py STREAM...``. Folders are only
read. Each row is a mean of the parts it names at a temperature of its own; macro-F1 and minus the
log-probability of labels (``nll``) are means over datasets of their test clips, ``ece_excess`` is
of all test clips together. Phantom and real streams stand in rows of their own.
"""

import argparse
import csv
import logging
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from aggregator.benchmark.stage import Stage
from aggregator.benchmark.stream import open_stream
from aggregator.fusion.analytic import fit_discriminant, fit_ridge
from aggregator.fusion.calibrate import best_temperature
from aggregator.fusion.evaluate import fuse_rows, is_scored, macro_score, score_rows
from aggregator.fusion.fit import fit_union_head
from aggregator.fusion.rows import held_out_rows
from aggregator.fusion.train import Provenance, train_fusions
from aggregator.joined_rows import DatasetRows, select_rows
from aggregator.settings import FusionSettings
from shared.echo.label_sets import possible_views
from shared.metrics import by_clip, calibration, vocabulary_log_probabilities
from shared.models.fused import union_views
from shared.models.fusion_weights import FusionModel
from shared.seeding import numpy_generator

log = logging.getLogger(__name__)
OUT = Path(__file__).parent / "ablation.csv"
Told = list[NDArray[np.float64]]
PAPER = ("sum", "attention", "discrepancy")
PARTS = ("sum", "ridge", "discriminant")


def main() -> None:
    """Measure every stream and write the table."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="folders with stream.json")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    rows = []
    for folder in parser.parse_args().folders:
        stream = open_stream(folder)
        for ablation, figures in _measure(stream.stage(len(stream.arrivals()))):
            log.info("%s %s %s %s", stream.record.name, stream.record.seed, ablation, figures)
            rows.append(
                {
                    "stream": stream.record.name,
                    "seed": stream.record.seed,
                    "ablation": ablation,
                    **figures,
                    "origin": stream.record.origin,
                    "commit": commit,
                }
            )
    with OUT.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _measure(stage: Stage) -> Iterator[tuple[str, dict[str, str]]]:
    """Ablation and its figures."""
    joined, held_out = stage.joined, held_out_rows(stage.joined)
    views = union_views(joined.blocks)
    settings = FusionSettings(variants=(*PAPER, "blend"), seed=stage.seed, threads=1)
    trials = train_fusions(joined, settings, Provenance("")).by_variant
    fusions: dict[str, FusionModel] = {name: one.fusion for name, one in trials.items()}
    for name, fit in (("ridge", fit_ridge), ("discriminant", fit_discriminant)):
        fusions[name] = fit_union_head(joined, held_out, balance=True, fits=(fit,))
    marked = [select_rows(rows, is_scored(rows, "test")) for rows in joined.datasets]
    tests = [rows for rows in marked if len(rows.label_N)]
    on = {
        name: ([*_tell(fusion, held_out)], [*_tell(fusion, tests)])
        for name, fusion in fusions.items()
    }
    for name in (*PAPER, "ridge", "discriminant", "blend"):
        yield name, _figures(on[name][1], tests, views)
    yield "sum with temperature", _mean(["sum"], on, held_out, tests, views)
    for gone in PARTS:
        left = [name for name in PARTS if name != gone]
        yield f"blend without {gone}", _mean(left, on, held_out, tests, views)
    warm = fusions["blend"].named_weights()["temperature/fused"].item()
    unscaled = [log_softmax(told_NV * warm, axis=1) for told_NV in on["blend"][1]]
    yield "blend without fused temperature", _figures(unscaled, tests, views)


def _tell(fusion: FusionModel, datasets: Sequence[DatasetRows]) -> Iterator[NDArray[np.float64]]:
    for rows in datasets:
        yield np.maximum(fuse_rows(fusion, rows).log_probabilities_NV, -1e3)


def _mean(
    names: Sequence[str],
    on: dict[str, tuple[Told, Told]],
    held_out: Sequence[DatasetRows],
    tests: Sequence[DatasetRows],
    views: Sequence[str],
) -> dict[str, str]:
    """Figures of the mean of parts, each at its own temperature and then all at one."""
    parts = [_at_best(on[name], held_out, views) for name in names]
    mean = tuple(
        [np.mean(told, axis=0) for told in zip(*(part[which] for part in parts), strict=True)]
        for which in (0, 1)
    )
    return _figures(_at_best((mean[0], mean[1]), held_out, views)[1], tests, views)


def _at_best(
    told: tuple[Told, Told], held_out: Sequence[DatasetRows], views: Sequence[str]
) -> tuple[Told, Told]:
    def scale(one: Told, temperature: float) -> Told:
        return [log_softmax(told_NV / temperature, axis=1) for told_NV in one]

    temperature, _ = best_temperature(lambda t: scale(told[0], t), held_out, views)
    return scale(told[0], temperature), scale(told[1], temperature)


def _figures(told: Told, tests: Sequence[DatasetRows], views: Sequence[str]) -> dict[str, str]:
    scores, losses, highest, right = [], [], [], []
    for told_NV, rows in zip(told, tests, strict=True):
        scores.append(score_rows(rows, told_NV, views))
        told_MV, label_M = by_clip(told_NV, rows.label_N, rows.clip_N)
        told_MK = vocabulary_log_probabilities(
            log_softmax(told_MV, axis=1), possible_views(rows, views)
        )
        losses.append(-told_MK[np.arange(len(label_M)), label_M].mean())
        highest.append(np.exp(told_MK.max(axis=1)))
        right.append(told_MK.argmax(axis=1) == label_M)
    found = calibration(
        np.concatenate(highest),
        np.concatenate(right),
        generator=numpy_generator(0, "calibration"),
    )
    return {
        "macro_f1": f"{macro_score(scores):.4f}",
        "nll": f"{np.mean(losses):.4f}",
        "ece_excess": f"{found.excess:.4f}",
    }


if __name__ == "__main__":
    main()
