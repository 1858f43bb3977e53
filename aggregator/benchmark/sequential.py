"""Methods that train one linear head by SGD, a dataset at a time.

References: EWC (Kirkpatrick et al. 2017, arXiv 1612.00796), LwF (Li and Hoiem 2016, arXiv
1606.09282), experience replay with a small balanced memory (Chaudhry et al. 2019, arXiv
1902.10486). Each starts from zero and learns its first dataset as the naive head does.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from aggregator.benchmark.lessons import (
    LEARNING_RATE,
    LEARNING_RATES,
    Head,
    Lesson,
    Loss,
    arrange_columns,
    arrange_lessons,
    blank_head,
    linear_teller,
    marginal_loss,
    plain_loss,
    train_head,
)
from aggregator.benchmark.stage import Stage, Teller
from aggregator.benchmark.tuning import choose_teller
from aggregator.fusion.rows import held_out_rows
from shared.seeding import numpy_generator

EWC_STRENGTHS = (1.0, 10.0, 100.0, 1e3, 1e4)
LWF_STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0)
LWF_TEMPERATURE = 2.0  # as in the paper
ROWS_PER_LABEL = 20
"""Memory of replay: rows per label (a view, or a set of views that a site does not tell apart)."""

Learn = Callable[[Sequence[Lesson], float, int], Head]
"""Lessons, the number that is tuned, seed -> the head after the last of them."""


class StoredRow(NamedTuple):
    """A row of replay's memory: the places of its lesson and of itself in it."""

    lesson: int
    place: int


def fit_naive(stage: Stage) -> Teller:
    """One head, trained on each dataset in turn; nothing holds it to earlier ones."""
    return _fit(stage, learn_naively, LEARNING_RATES)


def fit_ewc(stage: Stage) -> Teller:
    """Weights that earlier datasets needed are held by a quadratic penalty."""
    return _fit(stage, learn_with_penalty, EWC_STRENGTHS)


def fit_lwf(stage: Stage) -> Teller:
    """What the earlier head told of the new rows is to be told of them again."""
    return _fit(stage, learn_with_distillation, LWF_STRENGTHS)


def fit_replay(stage: Stage) -> Teller:
    """A few stored rows of each label are learned beside each batch."""
    return _fit(stage, learn_with_memory, LEARNING_RATES)


def learn_naively(lessons: Sequence[Lesson], learning_rate: float, seed: int) -> Head:
    """One dataset after the other."""
    head = blank_head(lessons[0])
    for lesson in lessons:
        head = _train(head, lesson, plain_loss(lesson), learning_rate, seed)
    return head


def learn_with_penalty(lessons: Sequence[Lesson], strength: float, seed: int) -> Head:
    """EWC: the plain loss plus ``strength / 2 * sum of F_k (w - w_k)^2`` for each earlier k."""
    head, held = blank_head(lessons[0]), list[tuple[Head, Head]]()
    for lesson in lessons:
        loss = _penalised(plain_loss(lesson), tuple(held))
        head = _train(head, lesson, loss, LEARNING_RATE, seed)
        held.append((head, _stiffness(fisher_information(head, lesson), strength)))
    return head


def learn_with_distillation(lessons: Sequence[Lesson], strength: float, seed: int) -> Head:
    """LwF: the plain loss and, ``strength`` times as heavy, the divergence from the earlier head.

    Heads are compared at a temperature, over the views that the earlier one knew.
    """
    head = blank_head(lessons[0])
    for lesson in lessons:
        loss = plain_loss(lesson)
        if head.knows_V.any():
            loss = _distilled(loss, lesson, head, strength)
        head = _train(head, lesson, loss, LEARNING_RATE, seed)
    return head


def learn_with_memory(lessons: Sequence[Lesson], learning_rate: float, seed: int) -> Head:
    """Replay: a batch of stored rows beside every batch of new ones, both of equal weight.

    Stored rows are looked at by each expert that comes later, as the platform's sites do.
    """
    generator = numpy_generator(seed, "replay")
    head, memory = blank_head(lessons[0]), list[StoredRow]()
    for number, lesson in enumerate(lessons):
        loss = plain_loss(lesson)
        if memory:
            loss = _rehearsed(loss, lessons[: number + 1], memory, generator)
        head = _train(head, lesson, loss, learning_rate, seed)
        memory = choose_memory(memory, lessons[: number + 1], generator)
    return head


def fisher_information(head: Head, lesson: Lesson) -> Head:
    """The diagonal of the Fisher information, laid out as a head.

    Exact for the views that the head itself would draw: for view v and column d the mean over
    rows of ``p_v (1 - p_v) x_d^2``.
    """
    seen_ND = torch.from_numpy(lesson.columns_ND * lesson.seen_D)
    told_NV = head.logits(seen_ND).softmax(dim=1)
    variance_NV = told_NV * (1.0 - told_NV)
    weight_VD = variance_NV.T @ seen_ND.square() / len(seen_ND)
    return Head(weight_VD, variance_NV.mean(dim=0), head.knows_V)


def choose_memory(
    memory: Sequence[StoredRow], lessons: Sequence[Lesson], generator: np.random.Generator
) -> list[StoredRow]:
    """At most ``ROWS_PER_LABEL`` of each label, in equal shares of the datasets that have it.

    Args:
        memory: rows stored so far.
        lessons: so far; all rows of the last one can be chosen.
        generator: draws the rows.
    """
    by_label: dict[bytes, list[StoredRow]] = {}
    last = [StoredRow(len(lessons) - 1, place) for place in range(len(lessons[-1].share_NV))]
    for row in (*memory, *last):
        is_target_V = lessons[row.lesson].share_NV[row.place] > 0
        by_label.setdefault(is_target_V.tobytes(), []).append(row)
    chosen: list[StoredRow] = []
    for found in by_label.values():
        before: Counter[int] = Counter()
        ranked = []
        for place in generator.permutation(len(found)).tolist():
            ranked.append((before[found[place].lesson], found[place]))
            before[found[place].lesson] += 1
        chosen.extend(row for _, row in sorted(ranked)[:ROWS_PER_LABEL])
    return chosen


def _fit(stage: Stage, learn: Learn, values: Sequence[float]) -> Teller:
    """Learn with each value of the tuned number and keep what the validation rows agree with."""
    columns = arrange_columns(stage)
    lessons = arrange_lessons(stage, columns)
    tried = (linear_teller(columns, learn(lessons, value, stage.seed)) for value in values)
    return choose_teller(tried, held_out_rows(stage.joined))


def _train(head: Head, lesson: Lesson, loss: Loss, learning_rate: float, seed: int) -> Head:
    generator = numpy_generator(seed, "lesson", lesson.rows.name)
    return train_head(head, lesson, loss, learning_rate=learning_rate, generator=generator)


def _stiffness(fisher: Head, strength: float) -> Head:
    """Above 1 / learning rate a step would overshoot; such weights are as good as frozen."""
    most = 1.0 / LEARNING_RATE
    return Head(
        (strength * fisher.weight_VD).clamp(max=most),
        (strength * fisher.bias_V).clamp(max=most),
        fisher.knows_V,
    )


def _penalised(plain: Loss, held: Sequence[tuple[Head, Head]]) -> Loss:
    def loss(head: Head, places_M: Tensor) -> Tensor:
        total = plain(head, places_M)
        for kept, stiffness in held:
            moved_VD, moved_V = head.weight_VD - kept.weight_VD, head.bias_V - kept.bias_V
            total = total + (stiffness.weight_VD * moved_VD.square()).sum() / 2
            total = total + (stiffness.bias_V * moved_V.square()).sum() / 2
        return total

    return loss


def _distilled(plain: Loss, lesson: Lesson, earlier: Head, strength: float) -> Loss:
    seen_ND = torch.from_numpy(lesson.columns_ND * lesson.seen_D)

    def tell(head: Head, rows_ND: Tensor) -> Tensor:
        told_MV = head.logits(rows_ND)[:, earlier.knows_V] / LWF_TEMPERATURE
        return told_MV.log_softmax(dim=1)

    told_NV = tell(earlier, seen_ND)

    def loss(head: Head, places_M: Tensor) -> Tensor:
        before_MV, now_MV = told_NV[places_M], tell(head, seen_ND[places_M])
        divergence = (before_MV.exp() * (before_MV - now_MV)).sum(dim=1).mean()
        # a mean, as a sum would make steps diverge where the strength is high
        return (plain(head, places_M) + strength * divergence) / (1.0 + strength)

    return loss


def _rehearsed(
    plain: Loss,
    lessons: Sequence[Lesson],
    memory: Sequence[StoredRow],
    generator: np.random.Generator,
) -> Loss:
    stored_ND = np.stack([lessons[row.lesson].columns_ND[row.place] for row in memory])
    seen_ND = torch.from_numpy(stored_ND * lessons[-1].seen_D)
    shares = [lessons[row.lesson].share_NV[row.place] for row in memory]
    is_target_NV = torch.from_numpy(np.stack(shares) > 0)

    def loss(head: Head, places_M: Tensor) -> Tensor:
        drawn_M = torch.from_numpy(generator.integers(len(seen_ND), size=len(places_M)))
        rehearsed = marginal_loss(head.logits(seen_ND[drawn_M]), is_target_NV[drawn_M])
        return (plain(head, places_M) + rehearsed) / 2

    return loss
