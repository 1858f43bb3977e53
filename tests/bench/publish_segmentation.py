"""The tables of segmentation, assessment and serving into the README's chapter.

Run after the measurements whose CSV lie beside this:
``python tests/bench/publish_segmentation.py``.
"""

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

BENCH = Path(__file__).parent
PAGE = BENCH.parents[1] / "README.md"
BEGIN, END = "<!-- segmentation:begin -->", "<!-- segmentation:end -->"
Row = Mapping[str, str]
_UNSHOWN = {"failed", "SV ml, heart", "EF of single frames, planes", "GLS of single frames, tissue"}
_REGIONS = (
    ("Dice LV", "dice_lv", 3),
    ("Dice myocardium", "dice_myocardium", 3),
    ("Dice LA", "dice_la", 3),
    ("edge LV mm", "mad_lv_mm", 2),
    ("HD95 LV mm", "hd95_lv_mm", 1),
)
_LANDMARKS = (
    ("landmarks mm", "landmark_mm", 2),
    ("base mm", "base_mm", 2),
    ("apex mm", "apex_mm", 2),
    ("contour mm", "contour_mm", 2),
)


def main() -> None:
    """Write the tables between the markers."""
    parts = []
    segmented = rows_of("segmentation.csv")
    for data in dict.fromkeys(row["data"] for row in segmented):
        here = [row for row in segmented if row["data"] == data]
        num = f"{here[0]['patients']} test patients, {here[0]['frames']} frames"
        parts.append(f"**{data}** ({here[0]['origin']}; {num})\n\n{table_of(here)}")
    for file, heading in (
        (
            "assessment.csv",
            "**Cines** (phantom; both views, planes as a hand finds them; mean absolute error with "
            "its 95 % interval, and bias)",
        ),
        (
            "streaming.csv",
            "**Streams of 64 MiB**: seconds of raw gRPC by ours, pairs of neighbours",
        ),
        ("serving.csv", "**Eight clients at once**"),
    ):
        if rows := [row for row in rows_of(file) if row.get("what") not in _UNSHOWN]:
            parts.append(f"{heading}\n\n{plain(rows)}")
    before, rest = PAGE.read_text().split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n" + "\n\n".join(parts) + f"\n\n{END}{after}")


def rows_of(file: str) -> list[dict[str, str]]:
    """The rows of a table, none where it is not there."""
    path = BENCH / file
    if not path.is_file():
        return []
    with path.open(newline="") as lines:
        return list(csv.DictReader(lines))


def table_of(rows: Sequence[Row]) -> str:
    """A line a kind of segmenter: mean over its seeds, with the lowest and highest."""
    kinds: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        kinds[row["name"], row["looks"]].append(row)
    columns = (*_REGIONS, *_LANDMARKS)
    lines = [["segmenter", "px", "seeds", *(name for name, _, _ in columns), "no contour"]]
    for (name, looks), seeds in kinds.items():
        shown = name if looks == "1" else f"{name}, {looks} looks"
        figures = [_figure(seeds, column, digits) for _, column, digits in columns]
        failed = "/".join(row["failed_contours"] for row in seeds)
        lines.append([shown, seeds[0]["size"], str(len(seeds)), *figures, failed])
    return _markdown(lines)


def plain(rows: Sequence[Row]) -> str:
    """All columns but machine and commit."""
    columns = [name for name in rows[0] if name not in {"machine", "commit", "seed"}]
    return _markdown([columns, *([row[name] for name in columns] for row in rows)])


def _figure(rows: Sequence[Row], column: str, digits: int) -> str:
    values = [float(row[column]) for row in rows if row.get(column)]
    if not values:
        return ""
    mean = f"{np.mean(values):.{digits}f}"
    if len(values) == 1:
        return mean
    return f"{mean} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    head, *body = lines
    ruled = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in ruled)


if __name__ == "__main__":
    main()
