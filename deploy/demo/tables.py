"""The README's results, written from the CSVs of measured figures and from nothing else."""

import csv
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import mean, stdev

BEGIN = "<!-- results: written by make figures -->"
END = "<!-- end of results -->"
ORDER = (
    "fused, after",
    "fused, before",
    "pool and retrain",
    "fine-tuning in turn, after",
    "fine-tuning in turn, before",
)
LIKENESS = (
    "histogram_intersection",
    *(
        f"{whose} {what}"
        for what in (
            "cavity speckle axial mm",
            "cavity speckle lateral mm",
            "muscle speckle lateral mm",
            "atrium grey mean",
        )
        for whose in ("phantom", "real")
    ),
)


def results_table(bench: Path) -> str:
    """Markdown of accuracy, fusions, evidence, BackMix, cost and likeness."""
    writers = {
        "accuracy.csv": _accuracy,
        "fusion.csv": _fusion,
        "evidence.csv": _evidence,
        "backmix.csv": _backmix,
        "cost.csv": _cost,
        "likeness.csv": _likeness,
    }
    return "\n\n".join(
        write(_read(bench / name)) if (bench / name).is_file() else f"{name}: not yet measured."
        for name, write in writers.items()
    )


def write_between(path: Path, text: str) -> None:
    """Replace what stands between the markers."""
    before, rest = path.read_text().split(BEGIN)
    _, after = rest.split(END)
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _accuracy(rows: list[dict[str, str]]) -> str:
    cells: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["level"] == "clip":
            cells[row["method"]][row["dataset"]].append(float(row["macro_f1"]))
    datasets = list(dict.fromkeys(row["dataset"] for row in rows))
    seeds = sorted({row["seed"] for row in rows})
    others = [m for m in cells if m not in ORDER and m.endswith(", after")]
    methods = [m for m in ORDER if m in cells] + others
    head = (
        "Clip-level macro-F1 on held-out patients, each dataset in its own vocabulary; mean and sd "
        f"over seeds {', '.join(seeds)}. All rows phantom, none real. "
        f"{rows[0]['test_frames']} test frames a seed. "
        f"Machine: {rows[0]['machine']}, commit {rows[0]['commit']}."
    )
    lines = [f"| method | {' | '.join(datasets)} | mean |", "|---" * (len(datasets) + 2) + "|"]
    for method in methods:
        values = [cells[method].get(name, []) for name in datasets]
        known = [v for v in values if v]
        overall = f"{mean(mean(v) for v in known):.3f}" if len(known) == len(values) else "-"
        lines.append(f"| {method} | {' | '.join(_spread(v) for v in values)} | {overall} |")
    return head + "\n\n" + "\n".join(lines)


def _fusion(rows: list[dict[str, str]]) -> str:
    methods: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        methods[row["method"]].append(row)
    folders = list(dict.fromkeys(row["folder"] for row in rows))
    lines = [
        "Every fusion on the same banks of exported features, phantom: macro-F1 as above, mean of "
        f"the datasets, and CPU seconds to train it ({', '.join(folders)}; commit "
        f"{rows[0]['commit']}).",
        "",
        "| fusion | macro-F1 | CPU seconds |",
        "|---|---|---|",
    ]
    for method, found in methods.items():
        scores = _spread([float(row["macro_f1"]) for row in found])
        seconds = mean(float(row["train_cpu_s"]) for row in found)
        lines.append(f"| {method} | {scores} | {f'{seconds:.1f}' if seconds else '-'} |")
    return "\n".join(lines)


def _evidence(rows: list[dict[str, str]]) -> str:
    sources: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        sources[row["source"]].append(row)
    folders = list(dict.fromkeys(row["folder"] for row in rows))
    lines = [
        f"Home rows against foreign ones on those banks, {rows[0]['origin']}: a view that the "
        "expert owns on a new scanner, and an unseen view. Nearest, fused and id scalar: one "
        "expert after the other is taken out, and its hospital is foreign. Brier: of an id score "
        "as the chance that the expert is right. Left out: nothing was fitted on it. Open set: "
        "mean share of clips that are known, kept at the site's threshold (95 % of its validation "
        "clips) and told right, and of those that are unknown and refused "
        f"({', '.join(folders)}; commit {rows[0]['commit']}).",
        "",
        "| evidence | AUROC, scanner | FPR95, scanner | AUROC, view | FPR95, view | Brier "
        "| open set |",
        "|---" * 7 + "|",
    ]
    keys = (
        *(
            f"{kind} {name}"
            for kind in ("new scanner", "unseen view")
            for name in ("auroc", "fpr95")
        ),
        "brier",
        "open set",
    )
    for source, found in sources.items():
        cells = [_spread([float(row[key]) for row in found if row.get(key)]) for key in keys]
        lines.append(f"| {source} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _backmix(rows: list[dict[str, str]]) -> str:
    head = (
        "BackMix, phantom: the screen tells the view in training. Frame accuracy where the screen "
        "lies, where it tells, and with the sector blackened where it tells (chance "
        f"{float(rows[0]['chance']):.2f}); seed {rows[0]['seed']}, "
        f"{rows[0]['test_frames']} test frames."
    )
    lines = ["| training | screen lies | screen tells | background alone |", "|---|---|---|---|"]
    keys = ("accuracy_clean", "accuracy_correlated", "accuracy_background_only")
    for row in rows:
        lines.append(f"| {row['method']} | {' | '.join(f'{float(row[k]):.3f}' for k in keys)} |")
    return head + "\n\n" + "\n".join(lines)


def _cost(rows: list[dict[str, str]]) -> str:
    def total(steps: Iterable[str], key: str, last: int) -> list[float]:
        found: dict[str, list[float]] = defaultdict(list)
        for row in rows:
            if row["step"] in steps:
                found[row["seed"]].append(float(row[key]))
        return [sum(values[-last:]) for values in found.values()]

    pooled = [
        s
        for s in {row["step"] for row in rows}
        if s.startswith("yardstick: train on") and s.count("+") > 1
    ]
    lines = ["| when dataset 4 has its expert | seconds | CPU seconds |", "|---|---|---|"]
    for name, steps, last in (
        ("increment, with process starts", ["increment after, with process starts"], 1),
        ("increment, rounds alone", ["increment after, rounds alone"], 1),
        ("pool and retrain", pooled, 1),
    ):
        cells = [_spread(total(steps, key, last), digits=1) for key in ("seconds", "cpu_seconds")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _likeness(rows: list[dict[str, str]]) -> str:
    by_measure: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        by_measure[row["measure"]].append(row)
    head = (
        "The phantom beside real pictures: scanners beside CAMUS patients 1-200 (real) in grey "
        "levels and speckle, and an expert that saw phantoms only on TTE47's B-mode stills (real). "
        "The scanners were set with these pictures in view: nothing here is held out."
    )
    lines = ["| measure | value | real pictures |", "|---|---|---|"]
    for measure, found in by_measure.items():
        if measure in LIKENESS or measure.startswith("TTE47"):
            low, *_, high = sorted([float(row["value"]) for row in found] * 2)
            value = f"{low:.2f}" if low == high else f"{low:.2f} to {high:.2f}, by scanner"
            lines.append(f"| {measure} | {value} | {found[0]['pictures']} |")
    return head + "\n\n" + "\n".join(lines)


def _spread(values: list[float], digits: int = 3) -> str:
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{mean(values):.{digits}f} ± {stdev(values):.{digits}f}"
