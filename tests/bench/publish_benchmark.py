"""The benchmark's tables into the README's fusion chapter, its pictures and figures beside this.

Run after ``echofed-aggregator benchmark``: ``python tests/bench/publish_benchmark.py``.
"""

import argparse
import os
import platform
import shutil
import subprocess
from pathlib import Path

import psutil
from PIL import Image

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "tests" / "bench"
BEGIN = "<!-- benchmark: written by tests/bench/publish_benchmark.py -->"
END = "<!-- end of benchmark -->"


def main() -> None:
    """Copy what is small, and write the tables with machine and commit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "runs" / "benchmark")
    folder = parser.parse_args().folder
    plots = BENCH / "plots"
    plots.mkdir(exist_ok=True)
    for picture in sorted(folder.glob("*.png")):
        with Image.open(picture) as drawn:  # a palette takes half of the bytes
            drawn.convert("RGB").quantize(256, method=Image.Quantize.FASTOCTREE).save(
                plots / picture.name, optimize=True
            )
    shutil.copy(folder / "summary.csv", BENCH / "benchmark.csv")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    ).stdout.strip()
    memory = round(psutil.virtual_memory().total / 2**30)
    head = (
        f"Machine: {platform.machine()} {os.cpu_count()} cores {memory} GiB, no GPU; commit "
        f"{commit}; every seed in [benchmark.csv](tests/bench/benchmark.csv)."
    )
    tables = (folder / "table.md").read_text().strip().replace("](", "](tests/bench/plots/")
    publish(ROOT / "README.md", f"{head}\n\n{tables}")


def publish(page: Path, text: str) -> None:
    """Replace what stands between the markers."""
    before, rest = page.read_text().split(BEGIN)
    _, after = rest.split(END)
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


if __name__ == "__main__":
    main()
