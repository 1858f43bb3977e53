"""The table of systems of synthesis into the README.

Run after ``measure_synthesis.py``: ``python tests/bench/publish_synthesis.py``.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from publish_segmentation import rows_of

PAGE = Path(__file__).parents[2] / "README.md"
BEGIN = "<!-- synthesis: written by tests/bench/publish_synthesis.py -->"
END = "<!-- end of synthesis -->"
Row = Mapping[str, str]
_SETTING = ("data", "labelled", "seconds", "images", "size")
_COLUMNS = (
    ("Dice LV", "dice_lv", 3),
    ("myocardium", "dice_myocardium", 3),
    ("LA", "dice_la", 3),
    ("share of real", "share", 3),
    ("KID", "kid", 5),
    ("FD", "fd", 3),
    ("precision", "precision", 2),
    ("recall", "recall", 2),
    ("memorised", "memorised", 2),
    ("coverage", "coverage", 2),
    ("evaluations", "evaluations", 0),
    ("GFLOP", "gflop", 1),
    ("full size", "full_gflop", 0),
    ("s an image", "s_per_image", 2),
    ("MB", "peak_mb", 0),
)


def main() -> None:
    """Write a table for each comparison between the markers."""
    comparisons: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows_of("synthesis.csv"):
        comparisons[tuple(row[name] for name in _SETTING)].append(row)
    parts = [f"{_head(rows)}\n\n{table_of(rows)}" for rows in comparisons.values()]
    before, rest = PAGE.read_text().split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text(f"{before}{BEGIN}\n" + "\n\n".join(parts) + f"\n{END}{after}")


def table_of(rows: Sequence[Row]) -> str:
    """A line a system: mean over its seeds, with the lowest and highest."""
    systems: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        systems[row["system"]].append(row)
    head = ["system", "seeds", *(name for name, _, _ in _COLUMNS), "difference from real"]
    lines = [head, ["---"] * len(head)]
    for system, seeds in systems.items():
        figures = [_figure(seeds, column, digits) for _, column, digits in _COLUMNS]
        intervals = "; ".join(_difference(row) for row in seeds if row.get("difference"))
        lines.append([system, str(len(seeds)), *figures, intervals])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _head(rows: Sequence[Row]) -> str:
    """What is compared, from how many patients, and where."""
    row = rows[0]
    labels = f"labels of {row['labelled']} patients, added to their real frames"
    judge = ", ".join(f"FD-{name}" for name in sorted({r["features"] for r in rows} - {""}))
    return (
        f"**{row['data']}** ({row['origin']}; {row['train_patients']} patients with labels, "
        f"{row['test_patients']} test patients; {row['size']} pixels, {row['images']} images, "
        f"{float(row['seconds']):g} s of training each"
        f"{'' if row['labelled'] == '0' else ', ' + labels}; {row['machine']}; {judge})"
    )


def _difference(row: Row) -> str:
    return f"{float(row['difference']):+.3f} {row['difference_interval']}"


def _figure(rows: Sequence[Row], column: str, digits: int) -> str:
    values = [float(row[column]) for row in rows if row.get(column)]
    if not values:
        return ""
    low, mean, high = (
        f"{value:.{digits}f}" for value in (min(values), np.mean(values), max(values))
    )
    return mean if low == high else f"{mean} ({low}-{high})"


if __name__ == "__main__":
    main()
