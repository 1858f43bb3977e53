"""Frames a CPU second as experts are added, from ``tests/bench/cost_experts.csv``."""

import csv
from collections.abc import Mapping
from pathlib import Path

from aggregator.benchmark.goals import COST_TARGETS, Goal, judge

Costs = Mapping[str, Mapping[int, float]]
"""Kind of expert -> number of experts -> frames per CPU second."""
TRUNK = "shared trunk"


def read_costs(path: Path) -> dict[str, dict[int, float]]:
    """Speeds by kind, and by backbone where there are several; nothing without such a file."""
    if not path.is_file():
        return {}
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    is_one = len({row["backbone"] for row in rows}) == 1
    costs: dict[str, dict[int, float]] = {}
    for row in rows:
        kind = row["kind"] if is_one else f"{row['kind']}, {row['backbone']}"
        costs.setdefault(kind, {})[int(row["experts"])] = float(row["frames_per_cpu_s"])
    return costs


def cost_goals(costs: Costs) -> tuple[Goal, ...]:
    """What 8 experts on a shared trunk cost in the cost of one, of several backbones the most."""
    ratios = [
        speeds[1] / speeds[8]
        for kind, speeds in costs.items()
        if kind.startswith(TRUNK) and {1, 8} <= speeds.keys()
    ]
    return judge({"trunk_cost": max(ratios)} if ratios else {}, COST_TARGETS)
