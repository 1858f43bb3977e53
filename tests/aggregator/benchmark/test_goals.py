"""Goals: bounds hold on the right side, and nothing is reached that was not measured."""

import math

import pytest

from aggregator.benchmark.goals import (
    COST_TARGETS,
    SCANNER_TARGETS,
    STREAM_TARGETS,
    Target,
    judge,
)

TARGETS = (*STREAM_TARGETS, *SCANNER_TARGETS.values(), *COST_TARGETS)


def test_without_a_figure_nothing_is_reached() -> None:
    goals = judge({"gain_low": math.nan}, TARGETS)
    assert len(goals) == len(TARGETS)
    assert {(goal.measured, goal.reached) for goal in goals} == {(None, "not measured")}


@pytest.mark.parametrize("target", TARGETS, ids=lambda one: one.key)
def test_a_bound_is_kept_on_its_side_alone(target: Target) -> None:
    better = 1 if target.side in ("above", "at least") else -1

    def reached(value: float) -> str:
        return judge({target.key: value}, [target])[0].reached

    assert reached(target.bound + better * 1e-6) == "yes"
    assert reached(target.bound - better * 1e-6) == "no"
    assert reached(target.bound) == ("yes" if target.side.startswith("at ") else "no")
