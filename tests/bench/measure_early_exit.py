"""What is lost where a site asks only its own expert once that is sure, into early_exit.csv.

Run after ``make figures``: ``python tests/bench/measure_early_exit.py runs/figures/seed-*``. A site
asks its own expert first and the others only for frames of which its highest probability is below a
limit. ``home`` are a site's own test rows; ``abroad`` are those of the other sites shown to it,
views that it does not know among them. Cost is the mean number of experts asked per frame. That an
expert's id score is small is known only after its pass, so nothing is saved by skipping on it.
"""

import argparse
import csv
import logging
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from aggregator.centre import open_centre
from aggregator.fuse import choose
from aggregator.fusion.evaluate import fuse_rows, score_rows
from aggregator.fusion.train import Provenance, train_fusions
from aggregator.joined_rows import JoinedRows
from shared.models.fusion_weights import FusionModel

log = logging.getLogger(__name__)
OUT = Path(__file__).parent / "early_exit.csv"
LIMITS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99, 0.999, 1.01)
"""From the own expert alone to all experts always."""
_FLOOR = -1e3  # natural logarithm of a view that the own expert does not know


def main() -> None:
    """Measure every folder and write the table."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="folders with aggregator.yaml")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    rows = []
    for folder in parser.parse_args().folders:
        centre = open_centre(folder / "aggregator.yaml", ())
        choice = choose(centre, ())
        joined = centre.bank.join(choice.experts, choice.contents)
        settings = centre.settings.fusion.model_copy(
            update={"variants": ("ridge",), "serve": "best", "threads": 1}
        )
        fusion = train_fusions(joined, settings, Provenance("")).best.fusion
        for where, limit, cost, macro_f1 in measure(joined, fusion):
            log.info("%s %s %.3f: %.2f experts, %.4f", folder.name, where, limit, cost, macro_f1)
            row = {"folder": folder.name.replace("-", " "), "where": where, "limit": str(limit)}
            row |= {"experts_asked": f"{cost:.3f}", "macro_f1": f"{macro_f1:.4f}"}
            rows.append(row | {"origin": "phantom", "commit": commit})
    with OUT.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def measure(joined: JoinedRows, fusion: FusionModel) -> Iterator[tuple[str, float, float, float]]:
    """Where, limit, experts asked per frame, clip macro-F1; means over site and dataset."""
    fused = [fuse_rows(fusion, rows).log_probabilities_NV for rows in joined.datasets]
    for limit in LIMITS:
        found: dict[str, list[tuple[float, float]]] = {"home": [], "abroad": []}
        for rows, fused_NV in zip(joined.datasets, fused, strict=True):
            site = rows.name.partition("/")[0]
            for own, block in enumerate(joined.blocks):
                told_NV = own_NV(rows.logits[own], block.views, fusion.views)
                is_sure_N = np.exp(told_NV.max(axis=1)) >= limit
                scores = score_rows(
                    rows, np.where(is_sure_N[:, None], told_NV, fused_NV), fusion.views
                )
                cost = 1 + (len(joined.blocks) - 1) * float((~is_sure_N).mean())
                where = "home" if block.expert.startswith(f"{site}-") else "abroad"
                found[where].append((cost, scores.clips.macro_f1))
        for where, pairs in found.items():
            yield where, limit, *np.mean(pairs, axis=0)


def own_NV(
    logits_NC: NDArray[np.float32], own: tuple[str, ...], views: tuple[str, ...]
) -> NDArray[np.float64]:
    """The own expert's log-probabilities over the union views."""
    told_NV = np.full((len(logits_NC), len(views)), _FLOOR)
    told_NV[:, [views.index(view) for view in own]] = log_softmax(logits_NC.astype(float), axis=1)
    return told_NV


if __name__ == "__main__":
    main()
