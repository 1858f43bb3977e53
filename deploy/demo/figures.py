"""``make figures``: seeds of the demo, BackMix, and the phantom beside real pictures."""

import argparse
import csv
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from backmix import BackMixPlan, run_backmix
from likeness import run_likeness
from plan import DemoPlan
from processes import CommandFailed, Processes, all_processes, say
from run import YARDSTICK, run
from tables import results_table, write_between

from shared.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "tests" / "bench"
COST = ("step", "seconds", "cpu_seconds", "megabytes")


class FiguresPlan(Settings):
    """Which seeds, on which demo, and the BackMix experiment."""

    seeds: tuple[int, ...]
    """Seeds of the demo."""
    demo: Path
    """The demo's plan, beside this file."""
    overrides: tuple[str, ...] = ()
    """What differs from the demo."""
    backmix: BackMixPlan
    """The BackMix experiment."""


def main() -> int:
    """Run what has not been run yet, then write the tables."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--config", type=Path, required=True)
    options.add_argument("--out", type=Path, required=True)
    given = options.parse_args()
    plan = load_settings(FiguresPlan, given.config)
    out = given.out.resolve()
    try:
        with all_processes(out / "backmix" / "logs") as processes:
            write_results([], run_backmix(plan.backmix, out / "backmix", processes))
        summaries: list[dict[str, Any]] = []
        for seed in plan.seeds:
            summaries.append(_seed(plan, given.config.parent, seed, out))
            write_results(summaries, [])
        with all_processes(out / "likeness" / "logs") as processes:
            measure_likeness(out / "likeness", out / f"seed-{plan.seeds[0]}", processes)
    except CommandFailed as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def measure_likeness(out: Path, seed: Path, processes: Processes) -> None:
    """Set the phantom beside real pictures, if there are any; a pooled network is asked."""
    if not (real_data := os.environ.get("ECHOFED_REAL_DATA")):
        say("ECHOFED_REAL_DATA is not set: the phantom is not set beside real pictures")
        return
    home = seed / YARDSTICK
    expert = next((home / "experts").glob(f"{YARDSTICK}-pool-*")).name
    site = ["--config", str(home / "site.yaml")]
    _write("likeness", run_likeness(Path(real_data), site, expert, out, processes))
    write_between(ROOT / "README.md", results_table(BENCH))


def write_results(
    summaries: Sequence[Mapping[str, Any]], backmix: Sequence[Mapping[str, Any]]
) -> None:
    """Write the CSVs of what has been run now and the README's table from them."""
    accuracy = [
        {
            "seed": s["seed"],
            "origin": s["origin"],
            "method": method,
            "dataset": name,
            "level": level,
            "macro_f1": round(value, 4),
            "test_frames": s["test_frames"],
        }
        for s in summaries
        for level, key in (("clip", "macro_f1"), ("frame", "frame_macro_f1"))
        for method, cells in s[key].items()
        for name, value in cells.items()
    ]
    cost = [
        {
            "seed": s["seed"],
            **{key: step[key] for key in COST},
        }
        for s in summaries
        for step in s["steps"]
    ]
    _write("accuracy", accuracy)
    _write("cost", cost)
    _write("backmix", backmix)
    write_between(ROOT / "README.md", results_table(BENCH))
    say("wrote tests/bench/*.csv and the README's table")


def _seed(plan: FiguresPlan, folder: Path, seed: int, out: Path) -> dict[str, Any]:
    target = out / f"seed-{seed}"
    if not (target / "summary.json").is_file():
        demo = load_settings(DemoPlan, folder / plan.demo, [*plan.overrides, f"seed={seed}"])
        run(demo, target)
    document = json.loads((target / "summary.json").read_text())
    assert isinstance(document, dict)
    return document


def _write(name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as a CSV that says on which machine and from which commit they come."""
    if not rows:
        return
    stamp = {"machine": _machine(), "commit": _commit()}
    BENCH.mkdir(exist_ok=True)
    with (BENCH / f"{name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=[*rows[0], *stamp], lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, **stamp} for row in rows)


def _machine() -> str:
    gigabytes = round(psutil.virtual_memory().total / 2**30)
    return f"{platform.machine()} {psutil.cpu_count()} cores {gigabytes} GiB"


def _commit() -> str:
    done = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
