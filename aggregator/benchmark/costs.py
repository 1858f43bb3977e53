"""Frames per second as experts are added, from the CSV of ``tests/bench``."""

import csv
from collections.abc import Mapping
from pathlib import Path

Costs = Mapping[str, Mapping[int, float]]
"""Kind of expert -> number of experts -> frames per second."""
TRUNK = "shared trunk"


def read_costs(path: Path) -> dict[str, dict[int, float]]:
    """Columns ``kind``, ``experts`` and ``frames_per_s``; nothing where there is no such file."""
    costs: dict[str, dict[int, float]] = {}
    if path.is_file():
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                costs.setdefault(row["kind"], {})[int(row["experts"])] = float(row["frames_per_s"])
    return costs


def cost_goals(costs: Costs) -> dict[str, float]:
    """What 8 experts on a shared trunk cost, in the cost of one."""
    trunk = costs.get(TRUNK, {})
    return {"trunk_cost": trunk[1] / trunk[8]} if trunk.keys() >= {1, 8} else {}
