"""What incomplete exports cost the fusions on stored streams: held-out F1, into incomplete.csv.

Run after ``echofed-aggregator streams``: ``python tests/bench/measure_incomplete.py FOLDERS...``.
"""

import argparse
import csv
import logging
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from aggregator.benchmark.stream import open_stream
from aggregator.fusion.evaluate import fuse_rows, macro_score, score_rows
from aggregator.fusion.moments import condense_datasets
from aggregator.fusion.train import Provenance, train_fusions
from aggregator.fusion.translate import fit_translator, without_experts
from aggregator.joined_rows import DatasetRows, JoinedRows
from aggregator.settings import FusionSettings
from shared.echo.expert import FusionVariant
from shared.models.fusion_weights import FusionModel

log = logging.getLogger(__name__)
OUT = Path(__file__).parent / "incomplete.csv"
VARIANTS: tuple[FusionVariant, ...] = ("ridge", "sum", "discrepancy")
MINIMUM = 5  # patients of a label, as in the policy
DROPOUT = 0.1
Fusions = Mapping[FusionVariant, FusionModel]
Case = tuple[str, str, str, Fusions, Sequence[DatasetRows]]
"""Case, which dataset or expert, how it is dealt with, fusions, rows to score them on."""


def main() -> None:
    """Measure every stream and write the table."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    log.setLevel(logging.INFO)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="folders with stream.json")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    rows = []
    for folder in parser.parse_args().folders:
        stream = open_stream(folder)
        stage = stream.stage(len(stream.arrivals()))
        with threadpool_limits(1):
            for case, what, handling, fusions, datasets in _cases(stage.joined):
                for variant, fusion in fusions.items():
                    macro_f1 = _macro_f1(fusion, datasets)
                    names = (case, what, handling, variant)
                    log.info("%s %s %.4f", folder.name, " | ".join(names), macro_f1)
                    rows.append(
                        {
                            "stream": f"{stream.record.name} {folder.name.replace('-', ' ')}",
                            "case": case,
                            "what": what,
                            "handling": handling,
                            "fusion": variant,
                            "macro_f1": f"{macro_f1:.4f}",
                            "origin": stream.record.origin,
                            "commit": commit,
                        }
                    )
    with OUT.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _cases(joined: JoinedRows) -> Iterator[Case]:
    whole = _train(joined)
    yield "all rows", "", "", whole, joined.datasets
    names = [rows.name for rows in joined.datasets]
    for told in (*([name] for name in names), names):
        condensed = condense_datasets(joined, told, minimum=MINIMUM)
        what = told[0] if len(told) == 1 else "every dataset"
        yield "statistics only", what, "", _train(condensed), joined.datasets
    yield from _unavailable(joined, whole)
    yield from _without_newest(joined)


def _unavailable(joined: JoinedRows, whole: Fusions) -> Iterator[Case]:
    """Each expert missing when the fusion is asked."""
    translator = fit_translator(joined)
    at_mean = replace(translator, correlation_MM=np.zeros_like(translator.correlation_MM))
    trained = [variant for variant in whole if variant != "ridge"]
    hardened = _train(joined, trained, dropout=DROPOUT)
    yield "all rows", "", "dropout", hardened, joined.datasets
    for place, block in enumerate(joined.blocks):
        case = "expert unavailable", block.expert
        cut = [without_experts(rows, [place]) for rows in joined.datasets]
        yield *case, "mask", whole, cut
        yield *case, "mean", whole, [at_mean.impute(rows) for rows in cut]
        yield *case, "translator", whole, [translator.impute(rows) for rows in cut]
        yield *case, "mask, dropout", hardened, cut


def _without_newest(joined: JoinedRows) -> Iterator[Case]:
    """Old datasets lack the newest expert, in training and when asked, or in training alone."""
    newest = len(joined.blocks) - 1
    old = [rows.name for rows in joined.datasets[:-1]]
    for told in (*([name] for name in old), old):
        datasets = tuple(
            without_experts(rows, [newest]) if rows.name in told else rows
            for rows in joined.datasets
        )
        lacking = replace(joined, datasets=datasets)
        what = told[0] if len(told) == 1 else "every old dataset"
        for handling, is_filled in (("mask", False), ("mask and translator", True)):
            fusions = _train(lacking, translate=is_filled)
            case = "without the newest expert", what
            yield *case, f"{handling}, absent when asked", fusions, lacking.datasets
            yield *case, f"{handling}, there when asked", fusions, joined.datasets


def _train(
    joined: JoinedRows,
    variants: Sequence[FusionVariant] = VARIANTS,
    *,
    dropout: float = 0.0,
    translate: bool = True,
) -> Fusions:
    settings = FusionSettings(
        variants=tuple(variants),
        threads=1,
        expert_dropout=dropout,
        translate_missing=translate,
    )
    trials = train_fusions(joined, settings, Provenance(""))
    return {variant: one.fusion for variant, one in trials.by_variant.items()}


def _macro_f1(fusion: FusionModel, datasets: Sequence[DatasetRows]) -> float:
    """Mean over datasets of the clip-level macro-F1 on test rows."""
    return macro_score(
        score_rows(rows, fuse_rows(fusion, rows).log_probabilities_NV, fusion.views)
        for rows in datasets
    )


if __name__ == "__main__":
    main()
