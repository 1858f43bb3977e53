"""Verdicts on figures: what stays passes, what is lost for certain does not, doubt is reported."""

import numpy as np
import pytest

from aggregator.assessment import Assessment, Finding, judge, no_figure, reasons
from aggregator.change_plan import ChangePlan, Demands, Limit, MinimumClips
from aggregator.fusion.paired import PairedClips, patient_intervals
from shared.errors import Code, EchoFedError

LABELS = ("4CH", "2CH")


def clips(right_before: int | None, right_after: int, *, of: int = 30) -> PairedClips:
    """Every patient has a clip of either label; ``right`` of the first label's are told."""

    def count(right: int) -> np.ndarray:
        counts_PKK = np.zeros((of, 2, 2), dtype=np.int64)
        counts_PKK[:right, 0, 0] = counts_PKK[right:, 0, 1] = counts_PKK[:, 1, 1] = 1
        return counts_PKK

    before = None if right_before is None else count(right_before)
    return PairedClips(LABELS, (("A4C",), ("A2C",)), before, count(right_after))


def found(plan: ChangePlan, pair: PairedClips) -> dict[str, Finding]:
    intervals = patient_intervals(pair, seed=0)
    return {one.figure: one for one in judge(plan, "north/echo", "bank", pair, intervals)}


def plan_of(recall: Limit, **said: object) -> ChangePlan:
    return ChangePlan(approvers=("ada",), everywhere=Demands(recall=recall), **said)


@pytest.mark.parametrize("right", [0, 7, 30])
@pytest.mark.parametrize("max_loss", [0.0, 0.05])
def test_a_candidate_equal_to_the_serving_one_always_holds(right: int, max_loss: float) -> None:
    limit = Limit(max_loss=max_loss, floor=0.6)
    demands = Demands(metrics={"macro_f1": limit, "accuracy": limit}, recall=limit)
    plan = ChangePlan(approvers=("ada",), everywhere=demands, uncertain="refuse")
    one_by_name = found(plan, clips(right, right))
    assert {one.verdict for one in one_by_name.values()} == {"holds", "not asked"}
    assert reasons(plan, list(one_by_name.values())) == ()


def test_a_loss_beyond_the_margin_and_the_interval_misses() -> None:
    plan = plan_of(Limit(max_loss=0.05))
    findings = found(plan, clips(29, 10))
    assert findings["recall 4CH"].verdict == "misses"
    assert findings["recall 2CH"].verdict == "holds"
    (reason,) = reasons(plan, list(findings.values()))
    assert "recall 4CH of north/echo" in reason


@pytest.mark.parametrize(("rule", "num_reasons"), [("report", 0), ("refuse", 1)])
def test_a_loss_within_the_interval_is_uncertain(rule: str, num_reasons: int) -> None:
    plan = plan_of(Limit(max_loss=0.05), uncertain=rule)
    findings = found(plan, clips(29, 26))
    assert findings["recall 4CH"].verdict == "uncertain"
    assert len(reasons(plan, list(findings.values()))) == num_reasons


@pytest.mark.parametrize(("rule", "num_reasons"), [("report", 0), ("refuse", 2)])
def test_too_few_clips_decide_nothing(rule: str, num_reasons: int) -> None:
    few = MinimumClips(view=31)
    plan = plan_of(Limit(max_loss=0.05), minimum_clips=few, uncertain=rule)
    findings = found(plan, clips(30, 0))
    assert findings["recall 4CH"].verdict == "too few"
    assert len(reasons(plan, list(findings.values()))) == num_reasons


def test_where_nothing_serves_only_the_floor_is_asked() -> None:
    plan = plan_of(Limit(max_loss=0.0, floor=0.5))
    assert found(plan, clips(None, 15))["recall 4CH"].verdict == "holds"
    assert found(plan, clips(None, 14))["recall 4CH"].verdict == "misses"
    without_floor = plan_of(Limit(max_loss=0.0))
    assert found(without_floor, clips(None, 0))["recall 4CH"].verdict == "not asked"


def test_a_site_that_allows_more_overrides_what_holds_everywhere() -> None:
    sites = {"north": Demands(recall=Limit(max_loss=0.9))}
    assert found(plan_of(Limit(max_loss=0.05)), clips(29, 10))["recall 4CH"].verdict == "misses"
    wider = plan_of(Limit(max_loss=0.05), sites=sites)
    assert found(wider, clips(29, 10))["recall 4CH"].verdict == "holds"


def test_a_plan_that_asks_more_than_any_fusion_can_reach_is_refused() -> None:
    with pytest.raises(EchoFedError) as caught:
        found(plan_of(Limit(max_loss=-0.05)), clips(30, 30))
    assert caught.value.code is Code.CONFIG_INVALID
    assert "recall 4CH of north/echo" in caught.value.message


def test_the_ledgers_record_holds_text_only_and_what_was_asked() -> None:
    plan = plan_of(Limit(max_loss=0.05))
    findings = (*found(plan, clips(29, 29)).values(), no_figure("south/echo", "withdrawn"))
    made = Assessment("fusion-b", "fusion-a", plan, "0" * 64, findings, (), ())
    record = made.record()
    assert record["figures"] == [
        "north/echo bank recall 4CH n=30 0.967 -> 0.967 (least 0.917): holds",
        "north/echo bank recall 2CH n=30 1.000 -> 1.000 (least 0.950): holds",
        "south/echo bank none n=0 - -> - (least -): withdrawn",
    ]
    assert made.document()["plan"]["approvers"] == ["ada"]
