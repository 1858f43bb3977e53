"""What every evidence tells of foreign rows, on given banks, into evidence.csv.

Run after ``make figures`` (``python tests/bench/measure_evidence.py runs/figures/seed-*``) or
``make streams`` (with the streams' folders); folders of phantoms and of real pictures are not
mixed. Folders are only read; a stream's foreign sites are foreign to every expert. The Brier score
is of "the expert's own answer is right" on test rows, datasets weighing the same; ``id score``
without energy is shown beside the served one. What is *left out* was left out of everything that
is fitted on exports: one dataset with its expert after the other, then one view after the other,
of all datasets. There, a clip is handled right if it is known, kept by its site's thresholds and
told right, or unknown and refused (open set: mean of the two shares); *low probability* refuses by
the highest probability instead, at the same recall.
"""

import argparse
import csv
import logging
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from aggregator.benchmark.stream import STREAM_FILE, open_stream
from aggregator.feature_bank import FeatureBank
from aggregator.fusion.calibrate import abstain_threshold
from aggregator.fusion.evaluate import fuse_rows, is_scored
from aggregator.fusion.fit import fit_union_head, is_right
from aggregator.fusion.novelty import fit_novelty, score_clips, site_rejections
from aggregator.fusion.rows import held_out_rows
from aggregator.fusion.scorecard import KINDS, Kind, scorecard, separation
from aggregator.joined_rows import DatasetRows, JoinedRows, select_rows
from shared.echo.expert import Rejection, load_expert
from shared.echo.label_sets import possible_views
from shared.metrics import by_clip, vocabulary_log_probabilities
from shared.models.fused import union_views
from shared.models.novelty import Novelty
from shared.models.union_head import UnionHead

log = logging.getLogger(__name__)
OUT = Path(__file__).parent / "evidence.csv"
RECALL = 0.95
COLUMNS = (
    *(f"{kind} {name}" for kind in KINDS for name in ("auroc", "fpr95")),
    "brier",
    "clip auroc",
    "clip fpr95",
    "known kept",
    "unknown refused",
    "open set",
    "origin",
)
Figures = tuple[str, dict[str, str]]
Homes = Mapping[str, Sequence[str]]
Case = tuple[Kind, JoinedRows, Sequence[DatasetRows]]
Told = dict[str, NDArray[Any]]


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
                | dict.fromkeys(COLUMNS, "")
                | figures
                | {"commit": commit}
            )
        log.info("%s %.1f CPU s", folder.name, time.process_time() - begun)
    with OUT.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _measure(folder: Path) -> Iterator[Figures]:
    """Every source with its figures, means over the experts."""
    joined, homes = _open(folder)
    (origin,) = {rows.origin for rows in joined.datasets}
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
            if kind in by_kind
            for name in ("auroc", "fpr95")
        }
        fusion = fusions.get(source.removeprefix("id score "))
        brier = "" if fusion is None else f"{_brier(fusion, joined):.4f}"
        yield source, figures | {"brier": brier, "origin": origin}
    for source, figures in _measure_unknown(joined, homes):
        yield source, figures | {"origin": origin}


def _open(folder: Path) -> tuple[JoinedRows, dict[str, list[str]]]:
    """All rows as the experts saw them, and expert -> datasets that it was trained on."""
    if (folder / STREAM_FILE).is_file():
        stream = open_stream(folder)
        contents = {one.name: one.content for one in stream.record.arrivals}
        of_stream = {one.expert: [one.name] for one in stream.arrivals()}
        return stream.bank.join(list(of_stream), contents), of_stream
    bank = FeatureBank(folder / "bank")
    experts = list(dict.fromkeys(entry.card.expert for entry in bank.entries()))
    cards = [load_expert(folder / "experts" / expert)[0] for expert in experts]
    homes = {card.id: [f"{card.site}/{name}" for name in card.datasets] for card in cards}
    return bank.join(experts), homes


def _measure_unknown(joined: JoinedRows, homes: Homes) -> Iterator[Figures]:
    """Means over what was left out: the id scalar, and the highest probability beside it."""
    for name, cases in (
        ("a scanner left out", _leave_scanners_out(joined, homes)),
        ("a view left out", _leave_views_out(joined)),
    ):
        found: dict[str, dict[str, list[float]]] = {}
        for case in cases:
            for source, columns in _measure_case(*case, homes).items():
                for column, value in columns.items():
                    found.setdefault(source, {}).setdefault(column, []).append(value)
        for source, values in found.items():
            yield f"{source}, {name}", {key: f"{np.mean(one):.4f}" for key, one in values.items()}


def _leave_scanners_out(joined: JoinedRows, homes: Homes) -> Iterator[Case]:
    """One expert after the other goes with its datasets; all their test rows are foreign."""
    for place, block in enumerate(joined.blocks):
        blocks = joined.blocks[:place] + joined.blocks[place + 1 :]
        left = [
            replace(rows, **{
                what: tuple(one for at, one in enumerate(getattr(rows, what)) if at != place)
                for what in ("available", "features", "logits", "evidence")
            })
            for rows in joined.datasets
        ]  # fmt: skip
        others = {
            name for expert, names in homes.items() if expert != block.expert for name in names
        }
        known = tuple(rows for rows in left if rows.name in others)
        foreign = [rows for rows in left if rows.name not in others]
        yield "new scanner", JoinedRows(blocks, known, {}), foreign


def _leave_views_out(joined: JoinedRows) -> Iterator[Case]:
    """One view after the other goes with all rows whose label may stand for it."""
    for view in union_views(joined.blocks):
        known, foreign = [], []
        for rows in joined.datasets:
            shows_N = np.array([view in views for views in rows.label_views])[rows.label_N]
            known.append(select_rows(rows, ~shows_N))
            foreign.append(select_rows(rows, shows_N))
        yield "unseen view", replace(joined, datasets=tuple(known)), foreign


def _measure_case(
    kind: Kind, known: JoinedRows, foreign: Sequence[DatasetRows], homes: Homes
) -> dict[str, dict[str, float]]:
    """Source -> column -> value; frames for what separates, clips for what is refused."""
    novelty = fit_novelty(known, homes)
    assert novelty is not None
    fusion = fit_union_head(known, held_out_rows(known), balance=True)
    rejections = site_rejections(novelty, known.datasets, recall=RECALL)
    strictest = max(rejections.values(), key=lambda one: one.id_scalar_below)
    low = abstain_threshold(fusion, known.datasets, 1.0 - RECALL)
    told: dict[bool, list[Told]] = {True: [], False: []}
    for is_known, datasets in ((True, known.datasets), (False, foreign)):
        for rows in datasets:
            test = select_rows(rows, is_scored(rows, "test"))
            if len(test.label_N):
                one = rejections.get(rows.name.partition("/")[0], strictest)
                told[is_known].append(_tell(test, novelty, fusion, one, low))
    here, away = (
        {name: np.concatenate([one[name] for one in told[side]]) for name in told[side][0]}
        for side in (True, False)
    )
    found = {}
    for source, value in (("id scalar", "score"), ("low probability", "probability")):
        kept, refused = ~here[f"{value} refuses"], away[f"{value} refuses"]
        found[source] = {
            **_separate(here[value], away[value], f"{kind} "),
            **_separate(here[f"clip {value}"], away[f"clip {value}"], "clip "),
            "known kept": kept.mean(),
            "unknown refused": refused.mean(),
            "open set": ((here["right"] & kept).mean() + refused.mean()) / 2,
        }
    return found


def _separate(
    home_N: NDArray[np.float64], foreign_N: NDArray[np.float64], start: str
) -> dict[str, float]:
    apart = separation(home_N, foreign_N)
    assert apart is not None
    return {f"{start}auroc": apart.auroc, f"{start}fpr95": apart.fpr95}


def _tell(
    test: DatasetRows, novelty: Novelty, fusion: UnionHead, one: Rejection, low: float
) -> Told:
    """By frame and clip how much at home it is, whether it is refused, and told right."""
    scorer = novelty.scorer(test.available)
    assert scorer is not None
    near_M = score_clips(scorer, test)
    told_NV = np.maximum(fuse_rows(fusion, test).log_probabilities_NV, -1e3)
    told_MV, label_M = by_clip(told_NV, test.label_N, test.clip_N)
    told_MV = log_softmax(told_MV, axis=1)
    told_MK = vocabulary_log_probabilities(told_MV, possible_views(test, fusion.views))
    return {
        "score": scorer.score(test.features, test.logits, test.evidence),
        "clip score": near_M,
        "score refuses": novelty.id_scalar(near_M) < one.id_scalar_below,
        "probability": told_NV.max(axis=1),
        "clip probability": told_MV.max(axis=1),
        "probability refuses": np.exp(told_MV.max(axis=1)) < low,
        "right": told_MK.argmax(axis=1) == label_M,
    }


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
