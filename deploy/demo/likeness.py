"""How far the phantom reaches into real pictures: grey levels, speckle, and views named right.

The expert that is asked saw phantoms only. Real pictures come from ``ECHOFED_REAL_DATA`` and stay
there. They were looked at while the scanner presets were made, so nothing here is held out.
"""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from processes import Processes

from shared.phantom.anatomy import draw_heart
from shared.phantom.realism import Appearance, appearance, compare, read_stills, stills_of
from shared.phantom.scanner import SCANNERS, render_clip

STILLS = "tte47"
GROUPS = {
    "a2ch": ["A2C"],
    "a3ch": ["A3C"],
    "a4ch": ["A4C"],
    "a5ch": ["A5C"],
    "plax": ["PLAX"],
    "psax": ["PSAX-AV", "PSAX-MV", "PSAX-PM", "PSAX-apex"],
    "subcostal": ["SC-4C"],
}
"""TTE47's groups of B-mode stills whose planes the phantom has."""
CAMUS_OPEN = range(1, 201)  # patients 201-250 are the test part
HEARTS = 12


def run_likeness(
    real_data: Path, site: list[str], expert: str, out: Path, processes: Processes
) -> list[dict[str, Any]]:
    """Measure every scanner beside CAMUS, then ask an expert for the groups of TTE47's stills.

    Args:
        real_data: folder of the real pictures.
        site: ``--config`` of a site that has the expert.
        expert: id of an expert trained on phantoms alone.
        out: folder for the labels of the stills.
        processes: runs the commands.

    Returns:
        Rows with measure, subject, value and number of real pictures.
    """
    stills = list(read_stills(real_data / "camus_a4c", patients=CAMUS_OPEN, limit=100))
    real = appearance(stills)
    rows = [
        {"measure": name, "subject": scanner, "value": round(value, 4), "pictures": len(stills)}
        for scanner in SCANNERS
        for name, value in compare(_looks(scanner), real).items()
    ]
    labels, label_map = write_stills(real_data / STILLS, out)
    files = ["--labels", str(labels), "--label-map", str(label_map), "--source", "images"]
    files += ["--set", "ingest.accept_unsigned_map=true"]  # groups of a published gallery
    files += ["--set", "ingest.text=blank"]  # no text of real pictures may be kept unseen
    command = ["echofed-site", "ingest", str(real_data / STILLS), *files, "--dataset", STILLS]
    processes.run(f"{STILLS}: ingest", [*command, *site])
    command = ["echofed-site", "evaluate", "--expert", expert, "--dataset", STILLS]
    scores = processes.run(f"{STILLS}: evaluate", [*command, *site])["scores"]["test"]["clips"]
    sizes = [sum(row) for row in scores["confusion"]]
    told = {
        "TTE47 group accuracy": scores["accuracy"],
        "TTE47 group balanced accuracy": scores["balanced_accuracy"],
        "TTE47 chance": 1 / len(sizes),
        "TTE47 share of the most frequent group": max(sizes) / sum(sizes),
    }
    return rows + [
        {"measure": name, "subject": expert, "value": round(value, 4), "pictures": sum(sizes)}
        for name, value in told.items()
    ]


def write_stills(stills: Path, out: Path) -> tuple[Path, Path]:
    """Write labels and label map of the stills that show a plane of the phantom, all for testing.

    Returns:
        Labels (CSV) and label map (YAML).
    """
    with (stills / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["group"] in GROUPS]
    out.mkdir(parents=True, exist_ok=True)
    labels, label_map = out / "labels.csv", out / "labels.yaml"
    with labels.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label", "split"])
        writer.writerows([row["file"], row["group"], "test"] for row in rows)
    label_map.write_text(yaml.safe_dump(GROUPS))
    return labels, label_map


def _looks(scanner: str) -> Appearance:
    def stills_of_heart(seed: int) -> Any:
        generator = np.random.default_rng(seed)
        heart, size = draw_heart(generator), (240, 320)
        return stills_of(
            render_clip(heart, "A4C", SCANNERS[scanner], num_frames=2, size_HW=size, rng=generator)
        )

    return appearance(still for seed in range(HEARTS) for still in stills_of_heart(seed))
