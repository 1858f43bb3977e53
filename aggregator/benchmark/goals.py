"""The figures that a default fusion is to reach, beside what a stream's benchmark measured."""

import math
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

_REACHED = {
    "above": operator.gt,
    "at least": operator.ge,
    "below": operator.lt,
    "at most": operator.le,
}


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on a figure.

    Args:
        key: of the measured value.
        side: of the bound on which the value is to lie.
    """

    key: str
    what: str
    side: Literal["above", "at least", "below", "at most"]
    bound: float


@dataclass(frozen=True, slots=True)
class Goal:
    """A target and what came of it; ``measured`` is None where no data are there."""

    goal: str
    measured: float | None
    reached: Literal["yes", "no", "not measured"]


# points are hundredths of clip macro-F1
STREAM_TARGETS = (
    Target("half_gap", "points over the middle of paper's best and oracle expert", "at least", 0),
    Target("gain_low", "points over paper's best, lower end of the interval", "above", 0),
    Target("behind_joint", "points behind joint training on pooled images", "at most", 1),
    Target("auroc_view", "AUROC of the id scalar, unseen view", "at least", 0.90),
    Target("ece_excess", "calibration error beyond chance", "below", 0.03),
    Target("forgetting", "forgetting, points", "below", 0.5),
    Target("statistics_loss", "points lost where all sites send statistics", "at most", 2),
    Target("cpu_ratio", "CPU seconds, joint training by update of the fusion", "at least", 15),
    Target("cpu_ratio_head", "CPU seconds, joint training by fit of the head", "at least", 50),
)
SCANNER_TARGETS = {
    "phantom": Target("auroc_scanner", "AUROC of the id scalar, new scanner", "at least", 0.95),
    "real": Target(
        "auroc_margin", "AUROC of the id scalar less the best detector's, new scanner", "above", 0
    ),
}
"""By origin of the stream."""
COST_TARGETS = (
    Target(
        "trunk_cost", "CPU seconds of inference on a shared trunk, 8 experts by 1", "at most", 1.5
    ),
)


def judge(measured: Mapping[str, float], targets: Iterable[Target]) -> tuple[Goal, ...]:
    """Hold measured figures against targets; what is missing or no number is not measured."""
    goals = []
    for target in targets:
        value = measured.get(target.key, math.nan)
        text = f"{target.what}: {target.side} {target.bound:g}"
        if math.isnan(value):
            goals.append(Goal(text, None, "not measured"))
        else:
            is_reached = _REACHED[target.side](value, target.bound)
            goals.append(Goal(text, value, "yes" if is_reached else "no"))
    return tuple(goals)
