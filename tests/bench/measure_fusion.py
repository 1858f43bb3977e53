"""Every fusion on the same banks: held-out macro-F1 and CPU seconds to train, into fusion.csv.

Run after ``make figures``: ``python tests/bench/measure_fusion.py runs/figures/seed-*``.
"""

import argparse
import csv
import logging
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from threadpoolctl import threadpool_limits

from aggregator.centre import Centre, open_centre
from aggregator.fuse import choose
from aggregator.fusion.analytic import CLOSED_FORMS, choose_head
from aggregator.fusion.report import compare
from aggregator.fusion.rows import held_out_rows
from aggregator.fusion.sums import FeatureSpace, sum_rows
from aggregator.fusion.train import Provenance, train_fusions
from aggregator.joined_rows import JoinedRows

log = logging.getLogger(__name__)
OUT = Path(__file__).parent / "fusion.csv"


def main() -> None:
    """Measure every folder of a centre and write the table."""
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
        with threadpool_limits(1):  # waiting threads would count as CPU seconds
            measured = list(_measure(centre, joined))
        for method, macro_f1, cpu_s in measured:
            log.info("%s %s %.4f %.2f CPU s", folder.name, method, macro_f1, cpu_s)
            rows.append(
                {
                    "folder": folder.name.replace("-", " "),
                    "method": method,
                    "macro_f1": f"{macro_f1:.4f}",
                    "train_cpu_s": f"{cpu_s:.2f}",
                    "origin": "phantom",
                    "commit": commit,
                }
            )
    with OUT.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _measure(centre: Centre, joined: JoinedRows) -> Iterator[tuple[str, float, float]]:
    """Method, macro-F1 (mean over datasets, clips), CPU seconds to train on one thread."""
    settings = centre.settings.fusion
    fusions, seconds = {}, {}
    for variant in ("sum", "attention", "discrepancy", "ridge", "blend"):
        begun = time.process_time()
        alone = settings.model_copy(update={"variants": (variant,), "serve": "best", "threads": 1})
        fusions[variant] = train_fusions(joined, alone, Provenance("")).best.fusion
        seconds[f"fused {variant}"] = time.process_time() - begun
    space = FeatureSpace(joined.blocks)
    heads = {}
    for name, fit in CLOSED_FORMS.items():
        begun = time.process_time()
        sums = [sum_rows(rows, space) for rows in joined.datasets]
        heads[name] = choose_head(fit, sums, held_out_rows(joined), space, balance=True)
        seconds[f"closed form {name}"] = time.process_time() - begun
    for method, macro_f1 in compare(joined, fusions, heads).macro_f1.items():
        if not method.startswith("expert"):
            yield method, macro_f1, seconds.get(method, 0.0)


if __name__ == "__main__":
    main()
