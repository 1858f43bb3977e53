"""``make demo``: three virtual hospitals, a fused classifier, then a fourth hospital joins."""

import argparse
import csv
import json
import platform
import shutil
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from federation import Federation
from outcome import Outcome
from plan import DemoPlan, data_of
from processes import CommandFailed, all_processes
from report import write_report
from rich.console import Console
from samples import sample_frames

from shared.console import table
from shared.settings import load_settings

YARDSTICK = "yardstick"


def main() -> int:
    """Read the options, run the demo, write summary and report."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--config", type=Path, required=True)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--seed", type=int)
    options.add_argument("--set", action="append", default=[], dest="overrides")
    given = options.parse_args()
    overrides = [*given.overrides, *([f"seed={given.seed}"] if given.seed is not None else [])]
    plan = load_settings(DemoPlan, given.config, overrides)
    try:
        summary = run(plan, given.out.resolve())
    except CommandFailed as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; all processes have ended", file=sys.stderr)
        return 130
    show(summary)
    print(f"report: {given.out / 'report.html'}\nsummary: {given.out / 'summary.json'}")
    return 0


def run(plan: DemoPlan, out: Path) -> dict[str, Any]:
    """Run the whole demo in an empty folder and return its summary."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    with all_processes(out / "logs") as processes:
        federation = Federation(plan, out, processes)
        outcome = Outcome(plan)
        federation.start_scans()
        federation.create_centre()
        first = [hospital.name for hospital in plan.hospitals]
        for place, name in enumerate(first):
            open_hospital(federation, place, name)
        outcome.note_increment("before", federation.increment())
        newcomer = plan.newcomer.name
        open_hospital(federation, len(first), newcomer)
        outcome.note_increment("after", federation.increment())
        picture = predict_unseen(federation, outcome)
        compare_with_images(federation, outcome, [*first, newcomer])
        outcome.note_cost(processes)
    summary = {
        "seed": plan.seed,
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "release": version("echofed"),
        "origin": "phantom",
        **outcome.summary(),
    }
    (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    write_report(summary, sample_frames(plan, out), picture, out / "report.html")
    return summary


def open_hospital(federation: Federation, place: int, name: str) -> None:
    """From a scanner's files to a node that waits for the centre."""
    federation.enrol(name)
    federation.await_scan(place)
    federation.ingest(name, name)
    federation.train(name, [name])
    federation.join(name)


def predict_unseen(federation: Federation, outcome: Outcome) -> Path:
    """Ask the first hospital what a patient of the newcomer's shows whom nobody trained on."""
    newcomer, site = federation.plan.newcomer.name, federation.plan.hospitals[0].name
    folder = data_of(federation.out, newcomer)
    with (folder / "labels.csv").open(newline="") as rows:
        unseen = [row for row in csv.DictReader(rows) if row["split"] == "test"]
    file, label = unseen[-1]["file"], unseen[-1]["label"]
    picture = federation.out / "prediction.png"
    verdict = federation.predict(site, folder / file, picture)
    outcome.note_verdict(verdict, truth=f"{newcomer} calls it {label!r}", asked=site)
    return picture


def compare_with_images(federation: Federation, outcome: Outcome, names: list[str]) -> None:
    """Train what no federation could: one network on everybody's images, and one in turn."""
    federation.create_yardstick(YARDSTICK)
    for name in names:
        federation.adopt_dataset(name, YARDSTICK)
    pooled = federation.train(YARDSTICK, names)["expert"]
    outcome.note_image_scores("pool and retrain", federation.evaluate(YARDSTICK, pooled, names))
    tuned = federation.adopt_expert(names[0], YARDSTICK)
    for place, name in enumerate(names[1:], start=1):
        start = ["--set", f"expert.start_from={tuned}", "--set", "expert.restrict_to_present=true"]
        tuned = federation.train(YARDSTICK, [name], *start)["expert"]
        if place < len(names) - 2:
            continue
        method = "fine-tuning in turn, " + ("after" if place == len(names) - 1 else "before")
        scores = federation.evaluate(YARDSTICK, tuned, names[: place + 1])
        outcome.note_image_scores(method, scores)


def show(summary: dict[str, Any]) -> None:
    """Print the tables that matter."""
    console = Console(width=None if sys.stdout.isatty() else 130)
    datasets = summary["datasets"]
    rows = [
        (method, *("-" if cells.get(d) is None else f"{cells[d]:.3f}" for d in datasets))
        for method, cells in summary["macro_f1"].items()
    ]
    title = "clip-level macro-F1 on held-out patients, own vocabulary (all phantom)"
    console.print(table(title, ("method", *datasets), rows))
    for entry in summary["per_view"]:
        title = f"{entry['name']}: recall by label"
        console.print(
            table(title, entry["columns"] and ("label", *entry["columns"]), entry["rows"])
        )
    cost = [(s["step"], s["seconds"], s["cpu_seconds"], s["megabytes"]) for s in summary["steps"]]
    console.print(table("what it cost", ("step", "seconds", "CPU seconds", "MB moved"), cost))
    console.print(summary["verdict"]["text"])


if __name__ == "__main__":
    sys.exit(main())
