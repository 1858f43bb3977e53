"""The figures that a default fusion is to reach, beside what a stream's benchmark measured."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["yes", "no", "not measured"]


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on a figure.

    Args:
        key: of the measured value.
        bound: reached on it, or beyond it where ``is_strict``.
        is_floor: higher is better; else lower.
    """

    key: str
    text: str
    bound: float
    is_floor: bool
    is_strict: bool = False

    def is_reached(self, value: float) -> bool:
        """Whether the value is on the right side of the bound."""
        distance = value - self.bound if self.is_floor else self.bound - value
        return distance > 0 if self.is_strict else distance >= 0


@dataclass(frozen=True, slots=True)
class Goal:
    """A target and what came of it; ``measured`` is None where no data are there."""

    goal: str
    measured: float | None
    reached: Verdict


# from the issue that asked for this benchmark; points are hundredths of clip macro-F1
TARGETS = (
    Target("gain_low", "gain over the paper's best, lower end: above 0", 0.0, True, True),
    Target("half_gap", "gain less half the gap to the oracle expert: at least 0", 0.0, True),
    Target("behind_joint", "points behind joint training: at most 1", 1.0, False),
    Target("forgetting", "forgetting in points: below 0.5", 0.5, False, True),
    Target("ece_excess", "calibration error beyond chance: below 0.03", 0.03, False, True),
    Target("statistics_loss", "points lost by statistics alone: at most 2", 2.0, False),
    Target("auroc_view", "AUROC of the id scalar, unseen view: at least 0.90", 0.90, True),
    Target("cpu_ratio", "joint training's CPU seconds by the fusion's: at least 15", 15.0, True),
    Target(
        "cpu_ratio_head", "joint training's CPU seconds by the head update's: 50", 50.0, True
    ),
    Target("trunk_cost", "shared trunk, cost of 8 experts by one: at most 1.5", 1.5, False),
    Target("trunk_loss", "points lost by the shared trunk: at most 0.5", 0.5, False),
)
SCANNER = {
    "phantom": Target(
        "auroc_scanner", "AUROC of the id scalar, foreign scanner: at least 0.95", 0.95, True
    ),
    "real": Target(
        "auroc_margin", "the same less the best single detector's: above 0", 0.0, True, True
    ),
}


def judge(
    measured: Mapping[str, float | None], origin: Literal["phantom", "real"]
) -> tuple[Goal, ...]:
    """Hold measured figures against the targets; what is missing or NaN is not measured."""
    goals = []
    for target in (*TARGETS, SCANNER[origin]):
        value = measured.get(target.key)
        if value is None or math.isnan(value):
            goals.append(Goal(target.text, None, "not measured"))
        else:
            goals.append(Goal(target.text, value, "yes" if target.is_reached(value) else "no"))
    return tuple(goals)
