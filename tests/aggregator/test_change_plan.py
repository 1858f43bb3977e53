"""The change plan: limits by scope, who may approve, and what no plan may say."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from aggregator.change_plan import (
    DEFAULT_PLAN,
    PLAN_FILE,
    ChangePlan,
    Demands,
    Limit,
    expect_known,
    load_plan,
)
from shared.errors import Code, EchoFedError

SHARES = st.floats(0, 1)


def write(folder: Path, plan: object) -> Path:
    (folder / PLAN_FILE).write_text(yaml.safe_dump(plan))
    return folder


def refusal(folder: Path, plan: object) -> EchoFedError:
    with pytest.raises(EchoFedError) as caught:
        load_plan(write(folder, plan))
    assert PLAN_FILE in caught.value.message
    return caught.value


def test_without_a_file_the_default_holds_and_anybody_may_approve(tmp_path: Path) -> None:
    assert load_plan(tmp_path) is DEFAULT_PLAN
    assert DEFAULT_PLAN.may_approve("ada")


@given(SHARES, SHARES, SHARES)
def test_a_figure_that_stays_meets_any_limit_that_allows_no_gain(
    before: float, max_loss: float, floor: float
) -> None:
    required = Limit(max_loss=max_loss, floor=floor).required(before)
    assert required is not None
    assert 0 <= required <= before


@given(SHARES, SHARES)
def test_a_floor_is_asked_where_nothing_serves_and_not_left_once_reached(
    before: float, floor: float
) -> None:
    limit = Limit(max_loss=1.0, floor=floor)
    assert limit.required(None) == floor
    assert limit.required(before) == min(before, floor)


def test_the_nearest_scope_that_names_a_figure_decides() -> None:
    plan = ChangePlan(
        approvers=("ada",),
        everywhere=Demands(
            metrics={"macro_f1": Limit(max_loss=0.01), "accuracy": Limit(max_loss=0.02)},
            recall=Limit(max_loss=0.05),
            views={"A4C": Limit(max_loss=0.03)},
        ),
        sites={
            "north": Demands(metrics={"macro_f1": Limit(max_loss=0.10)}),
            "north/echo": Demands(views={"A2C": Limit(floor=0.9)}),
        },
    )
    assert plan.limit_of_metric("north/echo", "macro_f1") == Limit(max_loss=0.10)
    assert plan.limit_of_metric("north/echo", "accuracy") == Limit(max_loss=0.02)
    assert plan.limit_of_metric("south/echo", "macro_f1") == Limit(max_loss=0.01)
    assert plan.limit_of_metric("south/echo", "balanced_accuracy") is None
    assert plan.limit_of_label("north/echo", ["A2C"]) == Limit(floor=0.9)
    assert plan.limit_of_label("north/echo", ["A4C"]) == Limit(max_loss=0.03)
    assert plan.limit_of_label("south/echo", ["A2C"]) == Limit(max_loss=0.05)


def test_a_label_of_several_named_views_is_held_to_the_strictest_limit() -> None:
    views = {"A4C": Limit(max_loss=0.1, floor=0.2), "A2C": Limit(max_loss=0.02)}
    limit = Demands(views=views).of_label(["A4C", "A2C", "PLAX"])
    assert limit == Limit(max_loss=0.02, floor=0.2)


@pytest.mark.parametrize(
    ("plan", "code", "named"),
    [
        ({}, Code.CONFIG_INVALID, "approvers"),
        ({"approvers": []}, Code.CONFIG_INVALID, "approvers"),
        ({"approvers": ["x" * 41]}, Code.CONFIG_INVALID, "approvers"),
        ({"approvers": ["ada"], "version": 2}, Code.CONFIG_INVALID, "version"),
        ({"approvers": ["ada"], "margin": 1}, Code.CONFIG_UNKNOWN_KEY, "margin"),
        ({"approvers": ["ada"], "everywhere": {}}, Code.CONFIG_INVALID, "asks for nothing"),
        (
            {"approvers": ["ada"], "everywhere": {"recall": {}}},
            Code.CONFIG_INVALID,
            "neither max_loss nor floor",
        ),
        (
            {"approvers": ["ada"], "everywhere": {"recall": {"floor": 1.01}}},
            Code.CONFIG_INVALID,
            "everywhere.recall.floor",
        ),
        (
            {"approvers": ["ada"], "everywhere": {"metrics": {"f1": {"floor": 0.5}}}},
            Code.CONFIG_INVALID,
            "macro_f1",
        ),
        (
            {"approvers": ["ada"], "everywhere": {"views": {"A4CH": {"floor": 0.5}}}},
            Code.CONFIG_INVALID,
            "A4C",
        ),
    ],
)
def test_a_plan_that_cannot_hold_is_refused_by_name(
    tmp_path: Path, plan: dict[str, object], code: Code, named: str
) -> None:
    error = refusal(tmp_path, plan)
    assert error.code is code
    assert named in error.message


@pytest.mark.parametrize("text", ["[1, 2", "- a"])
def test_a_file_that_is_no_plan_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / PLAN_FILE).write_text(text)
    with pytest.raises(EchoFedError) as caught:
        load_plan(tmp_path)
    assert caught.value.code is Code.CONFIG_INVALID


@pytest.mark.parametrize(
    ("scope", "code", "named"),
    [
        ("nroth", Code.CONFIG_INVALID, "nroth"),
        ("north/other", Code.CONFIG_INVALID, "north/other"),
        ("north", Code.VIEW_UNKNOWN, "PLAX"),
    ],
)
def test_a_plan_about_what_is_not_there_is_refused(scope: str, code: Code, named: str) -> None:
    demands = Demands(views={"PLAX": Limit(floor=0.5)})
    plan = ChangePlan(approvers=("ada",), sites={scope: demands})
    known = {"north": frozenset({"A4C"}), "north/echo": frozenset({"A4C"})}
    with pytest.raises(EchoFedError) as caught:
        expect_known(plan, known)
    assert caught.value.code is code
    assert named in caught.value.message


def test_the_readmes_plan_loads(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    text = readme.split(f"```yaml\n# {PLAN_FILE}\n")[1].split("```")[0]
    (tmp_path / PLAN_FILE).write_text(text)
    plan = load_plan(tmp_path)
    assert plan.may_approve("bo")
    assert not plan.may_approve("eve")
