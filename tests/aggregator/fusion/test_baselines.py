"""The untrained baselines on the same rows: what each must and must not be able to do."""

from dataclasses import replace

import numpy as np
import pytest

from aggregator.fusion.baselines import BASELINES, LOG_FLOOR, _log_odds, tell_alone
from aggregator.fusion.report import compare
from aggregator.joined_rows import DatasetRows, JoinedRows
from shared.models.fused import union_views

every_baseline = pytest.mark.parametrize("name", list(BASELINES))


def turned(rows: DatasetRows) -> DatasetRows:
    return replace(rows, logits=rows.logits[::-1], available=rows.available[::-1])


@every_baseline
def test_probabilities_sum_to_one(joined: JoinedRows, name: str) -> None:
    told = BASELINES[name](joined.datasets[0], joined.blocks, union_views(joined.blocks))
    np.testing.assert_allclose(np.exp(told).sum(axis=1), 1.0, atol=1e-9)


@every_baseline
def test_the_order_of_experts_does_not_matter(joined: JoinedRows, name: str) -> None:
    rows, views = joined.datasets[0], union_views(joined.blocks)
    told = BASELINES[name](rows, joined.blocks, views)
    np.testing.assert_allclose(told, BASELINES[name](turned(rows), joined.blocks[::-1], views))


@every_baseline
def test_an_expert_that_did_not_see_the_dataset_has_no_say(
    incomplete: JoinedRows, name: str
) -> None:
    north, views = incomplete.datasets[0], union_views(incomplete.blocks)
    loud = replace(north, logits=(*north.logits[:2], north.logits[2] + 1e4))
    told = BASELINES[name](north, incomplete.blocks, views)
    np.testing.assert_array_equal(told, BASELINES[name](loud, incomplete.blocks, views))


@every_baseline
def test_with_one_expert_every_baseline_is_that_expert(joined: JoinedRows, name: str) -> None:
    rows, views = joined.datasets[0], union_views(joined.blocks)
    only_first = replace(rows, available=(True, False, False))
    alone = tell_alone(rows, joined.blocks, views, expert=joined.blocks[0].expert)
    told = BASELINES[name](only_first, joined.blocks, views)
    np.testing.assert_allclose(np.exp(told), np.exp(alone), atol=1e-9)


def test_an_expert_alone_never_tells_a_view_that_it_lacks(joined: JoinedRows) -> None:
    rows, views = joined.datasets[1], union_views(joined.blocks)
    block = joined.blocks[0]
    told = tell_alone(rows, joined.blocks, views, expert=block.expert)
    lacked = [place for place, view in enumerate(views) if view not in block.views]
    assert (told[:, lacked] == LOG_FLOOR).all()


def test_routing_follows_the_surest_expert(joined: JoinedRows) -> None:
    views = union_views(joined.blocks)
    rows = joined.datasets[0]
    sure = replace(rows, logits=(rows.logits[0] * 0, rows.logits[1] * 0, rows.logits[2] * 99))
    told = BASELINES["confidence routing"](sure, joined.blocks, views)
    third = tell_alone(sure, joined.blocks, views, expert=joined.blocks[2].expert)
    spread = np.ptp(sure.logits[2], axis=1) > 1
    np.testing.assert_array_equal(told[spread], third[spread])


def test_the_report_names_what_was_not_seen(incomplete: JoinedRows) -> None:
    report = compare(incomplete, {}, {})
    east = incomplete.blocks[2].expert
    assert report.incomplete == {"north/north-echo": (east,)}
    assert "north/north-echo" not in report.scores[f"expert {east}"]
    assert set(report.scores["max logit"]) == {rows.name for rows in incomplete.datasets}


def test_a_head_of_one_view_is_always_sure() -> None:
    """Its softmax is 1 whatever it sees: a known weakness of routing by confidence."""
    assert np.isposinf(_log_odds(np.zeros((2, 1)))).all()


def test_log_odds_order_like_the_highest_probability() -> None:
    logits = np.random.default_rng(0).normal(size=(200, 4))
    highest = np.exp(logits).max(axis=1) / np.exp(logits).sum(axis=1)
    np.testing.assert_allclose(_log_odds(logits), np.log(highest / (1 - highest)))
