"""What every evidence tells of foreign rows, on given banks, into evidence.csv; phantom rows only.

Run after ``make figures``: ``python tests/bench/measure_evidence.py runs/figures/seed-*``. Folders
are only read. The Brier score is of "the expert's own answer is right" on test rows, datasets
weighing the same; ``id score`` without energy is shown beside the served one.
"""

import argparse
import csv
import logging
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.special import log_softmax

from aggregator.feature_bank import DatasetRows, FeatureBank, JoinedRows, select_rows
from aggregator.fusion.evaluate import fuse_rows, is_scored
from aggregator.fusion.fit import fit_union_head, is_right
from aggregator.fusion.rows import held_out_rows
from aggregator.fusion.scorecard import KINDS, scorecard
from shared.echo.expert import load_expert
from shared.models.union_head import UnionHead

log = logging.getLogger(__name__)
OUT = Path(__file__).parent / "evidence.csv"
Figures = tuple[str, dict[str, str]]


def main() -> None:
    """Measure every folder of a centre and write the table."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="folders with bank/ and experts/")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    rows = []
    for folder in parser.parse_args().folders:
        begun = time.process_time()
        for source, figures in _measure(folder):
            rows.append(
                {"folder": folder.name.replace("-", " "), "source": source}
                | figures
                | {"origin": "phantom", "commit": commit}
            )
        log.info("%s %.1f CPU s", folder.name, time.process_time() - begun)
    with OUT.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _measure(folder: Path) -> Iterator[Figures]:
    """Every source with its figures, means over the experts."""
    bank = FeatureBank(folder / "bank")
    experts = list(dict.fromkeys(entry.card.expert for entry in bank.entries()))
    joined = bank.join(experts)
    assert {rows.origin for rows in joined.datasets} == {"phantom"}
    cards = [load_expert(folder / "experts" / expert)[0] for expert in experts]
    homes = {card.id: [f"{card.site}/{name}" for name in card.datasets] for card in cards}
    with_energy = fit_union_head(joined, held_out_rows(joined), balance=True)
    flat = replace(joined, datasets=tuple(_without_energy(rows) for rows in joined.datasets))
    without = fit_union_head(flat, held_out_rows(flat), balance=True)
    fusions = {"ridge": with_energy, "ridge without energy": without}
    found = scorecard(joined, homes, fusions)
    for source, by_kind in found.average.items():
        if source == "fused id ridge without energy":
            continue  # fitted again for the fused scalar, and then with energy
        figures = {
            f"{kind} {name}": f"{by_kind[kind][name]:.4f}"
            for kind in KINDS
            for name in ("auroc", "fpr95")
        }
        fusion = fusions.get(source.removeprefix("id score "))
        yield source, figures | {"brier": "" if fusion is None else f"{_brier(fusion, joined):.4f}"}


def _without_energy(rows: DatasetRows) -> DatasetRows:
    """The same opinions with an energy of zero, from which no id score can learn anything."""
    logits = tuple(log_softmax(own_NC, axis=1).astype(np.float32) for own_NC in rows.logits)
    return replace(rows, logits=logits)


def _brier(fusion: UnionHead, joined: JoinedRows) -> float:
    """Mean over experts and datasets of the squared error of the id score on test rows."""
    errors = []
    for rows in joined.datasets:
        test = select_rows(rows, is_scored(rows, "test"))
        id_scores_NE = fuse_rows(fusion, test).id_scores_NE
        for place, block in enumerate(joined.blocks):
            right_N = is_right(test, place, block)
            errors.append(((id_scores_NE[:, place] - right_N) ** 2).mean())
    return float(np.mean(errors))


if __name__ == "__main__":
    main()
