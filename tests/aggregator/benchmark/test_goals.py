"""Goals: bounds hold on the right side, and nothing is reached that was not measured."""

import math

import pytest

from aggregator.benchmark.goals import SCANNER, TARGETS, judge


@pytest.mark.parametrize("origin", list(SCANNER))
def test_without_a_figure_nothing_is_reached(origin: str) -> None:
    goals = judge({"gain_low": math.nan}, origin)
    assert len(goals) == len(TARGETS) + 1
    assert {(goal.measured, goal.reached) for goal in goals} == {(None, "not measured")}


@pytest.mark.parametrize("target", [*TARGETS, *SCANNER.values()], ids=lambda one: one.key)
def test_a_bound_is_kept_on_its_side_alone(target) -> None:  # type: ignore[no-untyped-def]
    origin = next((o for o, one in SCANNER.items() if one is target), "phantom")
    better = 1 if target.side in ("above", "at least") else -1

    def reached(value: float) -> str:
        goals = judge({target.key: value}, origin)
        return next(goal.reached for goal in goals if goal.goal.startswith(target.what))

    assert reached(target.bound + better * 1e-6) == "yes"
    assert reached(target.bound - better * 1e-6) == "no"
    assert reached(target.bound) == ("yes" if target.side.startswith("at ") else "no")
