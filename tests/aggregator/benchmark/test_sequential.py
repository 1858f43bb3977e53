"""Heads that learn one dataset after the other: what guards them is exact, or off."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from aggregator.benchmark.lessons import (
    Head,
    Lesson,
    arrange_columns,
    arrange_lessons,
    linear_teller,
    marginal_loss,
)
from aggregator.benchmark.sequential import (
    ROWS_PER_LABEL,
    StoredRow,
    choose_memory,
    fisher_information,
    learn_naively,
    learn_with_distillation,
    learn_with_memory,
    learn_with_penalty,
)
from aggregator.benchmark.stage import Stage
from aggregator.benchmark.stream import Stream
from shared.seeding import numpy_generator

RATE = 0.01  # at which the guarded methods learn


@pytest.fixture(scope="module")
def stage(world_stream: Stream) -> Stage:
    return world_stream.stage(3)


@pytest.fixture(scope="module")
def lessons(stage: Stage) -> list[Lesson]:
    return arrange_lessons(stage, arrange_columns(stage))


@pytest.fixture(scope="module")
def naive(lessons: list[Lesson]) -> Head:
    return learn_naively(lessons, RATE, 0)


def distance(one: Head, other: Head) -> float:
    return float((one.weight_VD - other.weight_VD).norm())


def test_a_lesson_knows_no_later_expert_and_no_later_view(lessons: list[Lesson]) -> None:
    for number, lesson in enumerate(lessons):
        assert lesson.seen_D.sum() == 16 * (number + 1)
        taught_V = np.any([(one.share_NV > 0).any(axis=0) for one in lessons[: number + 1]], axis=0)
        assert np.array_equal(lesson.knows_V, taught_V)
    assert np.array_equal(sum(one.is_new_V.astype(int) for one in lessons), lessons[-1].knows_V)


def test_columns_are_standard_on_the_rows_with_which_their_expert_came(
    lessons: list[Lesson],
) -> None:
    for number, lesson in enumerate(lessons):
        own = lesson.columns_ND[:, 16 * number : 16 * (number + 1)]
        np.testing.assert_allclose(own.mean(axis=0), 0.0, atol=1e-9)
        np.testing.assert_allclose(own.std(axis=0), 1.0, atol=1e-9)


def test_earlier_lessons_do_not_change_when_a_dataset_comes(
    world_stream: Stream, lessons: list[Lesson]
) -> None:
    before = world_stream.stage(2)
    for lesson, same in zip(
        arrange_lessons(before, arrange_columns(before)), lessons, strict=False
    ):
        seen_ND = same.columns_ND[:, same.seen_D]
        assert np.array_equal(lesson.columns_ND[:, lesson.seen_D], seen_ND)


@pytest.mark.parametrize("learn", [learn_with_penalty, learn_with_distillation])
def test_a_guard_of_no_strength_is_the_naive_head(
    lessons: list[Lesson], naive: Head, learn: type
) -> None:
    assert torch.equal(learn(lessons, 0.0, 0).weight_VD, naive.weight_VD)


@pytest.mark.parametrize("learn", [learn_with_penalty, learn_with_distillation, learn_with_memory])
def test_the_first_dataset_is_learned_as_the_naive_head_learns_it(
    lessons: list[Lesson], learn: type
) -> None:
    value = RATE if learn is learn_with_memory else 100.0
    assert torch.equal(
        learn(lessons[:1], value, 0).weight_VD, learn_naively(lessons[:1], RATE, 0).weight_VD
    )


@pytest.mark.parametrize("learn", [learn_with_penalty, learn_with_distillation])
def test_a_stronger_guard_stays_nearer_to_the_earlier_head(
    lessons: list[Lesson], learn: type
) -> None:
    before = learn_naively(lessons[:1], RATE, 0)
    weak, strong = (distance(learn(lessons[:2], s, 0), before) for s in (0.1, 100.0))
    assert strong < weak


def test_fisher_information_is_the_mean_squared_gradient_over_drawn_views(
    lessons: list[Lesson], naive: Head
) -> None:
    lesson = lessons[-1]
    few = replace(lesson, columns_ND=lesson.columns_ND[:7], share_NV=lesson.share_NV[:7])
    rows_ND = torch.from_numpy(few.columns_ND * few.seen_D)
    expected_VD = torch.zeros_like(naive.weight_VD)
    for row_D in rows_ND:
        weight_VD = naive.weight_VD.clone().requires_grad_()
        told_V = Head(weight_VD, naive.bias_V, naive.knows_V).logits(row_D[None])[0].log_softmax(0)
        for view in torch.nonzero(naive.knows_V).ravel().tolist():
            (slope_VD,) = torch.autograd.grad(told_V[view], weight_VD, retain_graph=True)
            expected_VD += told_V[view].exp().detach() * slope_VD.square() / len(rows_ND)
    found = fisher_information(naive, few)
    torch.testing.assert_close(found.weight_VD, expected_VD, rtol=1e-9, atol=1e-12)


def test_memory_is_small_and_shared_by_the_datasets_that_have_a_label(
    lessons: list[Lesson],
) -> None:
    generator = numpy_generator(0, "memory")
    memory: list[StoredRow] = []
    for number in range(len(lessons)):
        memory = choose_memory(memory, lessons[: number + 1], generator)
    by_label: dict[bytes, list[int]] = {}
    for row in memory:
        by_label.setdefault(lessons[row.lesson].share_NV[row.place].tobytes(), []).append(
            row.lesson
        )
    assert len(by_label) == lessons[-1].knows_V.sum()
    for stored in by_label.values():
        assert len(stored) == ROWS_PER_LABEL
        counts = np.bincount(stored)
        assert np.ptp(counts[counts > 0]) <= 1


def test_replay_forgets_less_than_the_naive_head(
    stage: Stage, lessons: list[Lesson], naive: Head
) -> None:
    def loss_of_first(head: Head) -> float:
        first = lessons[0]
        told_NV = head.logits(torch.from_numpy(first.columns_ND))
        return float(marginal_loss(told_NV, torch.from_numpy(first.share_NV > 0)))

    assert loss_of_first(learn_with_memory(lessons, RATE, 0)) < loss_of_first(naive)


def test_the_marginal_loss_sums_the_views_of_a_label() -> None:
    logits_NV = torch.log(torch.tensor([[0.1, 0.2, 0.7]], dtype=torch.float64))
    is_target_NV = torch.tensor([[True, True, False]])
    assert float(marginal_loss(logits_NV, is_target_NV)) == pytest.approx(-np.log(0.3))


def test_a_view_that_was_not_taught_is_never_told(world_stream: Stream) -> None:
    stage = world_stream.stage(3)
    columns = arrange_columns(stage)
    first = arrange_lessons(stage, columns)[:1]
    teller = linear_teller(columns, learn_naively(first, RATE, 0))
    told_NV = teller.tell(stage.joined.datasets[1])
    assert (told_NV[:, ~first[0].knows_V] < -20).all()
