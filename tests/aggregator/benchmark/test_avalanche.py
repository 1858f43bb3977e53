"""Our naive head, EWC, LwF, replay and SLDA against Avalanche's (the ``bench`` extra).

All experts are known from the start here, as Avalanche's replay keeps its rows as they were.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from aggregator.benchmark.lessons import (
    BATCH,
    EPOCHS,
    LEARNING_RATE,
    MOMENTUM,
    Head,
    Lesson,
    arrange_columns,
    arrange_lessons,
)
from aggregator.benchmark.sequential import (
    LWF_TEMPERATURE,
    ROWS_PER_LABEL,
    learn_naively,
    learn_with_distillation,
    learn_with_memory,
    learn_with_penalty,
)
from aggregator.benchmark.stream import Stream
from aggregator.benchmark.streaming import blank_moments, stream_moments

avalanche = pytest.importorskip("avalanche")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def lessons(world_stream: Stream) -> list[Lesson]:
    stage = world_stream.stage(3)
    found = arrange_lessons(stage, arrange_columns(stage))
    return [replace(lesson, seen_D=np.ones_like(lesson.seen_D)) for lesson in found]


def test_streaming_moments_are_avalanches(lessons: list[Lesson]) -> None:
    from avalanche.training.supervised import StreamingLDA

    width, num_views = lessons[0].columns_ND.shape[1], lessons[0].share_NV.shape[1]
    theirs = StreamingLDA(
        slda_model=nn.Identity(),
        criterion=nn.CrossEntropyLoss(),
        input_size=width,
        num_classes=num_views,
        evaluator=None,
    )
    for lesson in lessons:
        for row_D, share_V in zip(lesson.columns_ND, lesson.share_NV, strict=True):
            row = torch.from_numpy(row_D).float()[None]
            theirs.fit(row, torch.tensor([int(share_V.argmax())]))
    moments = blank_moments(lessons[0])
    for lesson in lessons:
        moments = stream_moments(moments, lesson.columns_ND, lesson.share_NV)
    np.testing.assert_allclose(theirs.muK.numpy(), moments.mean_VD, atol=1e-4)
    np.testing.assert_allclose(theirs.Sigma.numpy(), moments.covariance_DD, atol=1e-3)


def learn_by_avalanche(strategy: Any, lessons: Sequence[Lesson], **settings: Any) -> Head:
    """Train a linear head by one of Avalanche's strategies, from zero, on the same rows."""
    from avalanche.benchmarks import tensors_benchmark
    from avalanche.models import IncrementalClassifier

    tensors = [
        (
            torch.from_numpy(lesson.columns_ND * lesson.seen_D).float(),
            torch.from_numpy(lesson.share_NV.argmax(axis=1)),
        )
        for lesson in lessons
    ]
    benchmark = tensors_benchmark(
        train_tensors=tensors, test_tensors=tensors[:1], task_labels=[0] * len(tensors)
    )
    width, num_views = lessons[0].columns_ND.shape[1], lessons[0].share_NV.shape[1]
    model = IncrementalClassifier(width, num_views)
    nn.init.zeros_(model.classifier.weight)
    nn.init.zeros_(model.classifier.bias)
    torch.manual_seed(0)
    learner = strategy(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=BATCH,
        train_epochs=EPOCHS,
        evaluator=None,
        **settings,
    )
    for experience in benchmark.train_stream:
        learner.train(experience)
    return Head(
        model.classifier.weight.detach().double(),
        model.classifier.bias.detach().double(),
        torch.from_numpy(lessons[-1].knows_V),
    )


def mean_accuracy(head: Head, lessons: Sequence[Lesson]) -> float:
    """Over all training rows; forgetting makes it low."""
    told = [
        head.logits(torch.from_numpy(lesson.columns_ND)).argmax(dim=1).numpy() for lesson in lessons
    ]
    true = [lesson.share_NV.argmax(axis=1) for lesson in lessons]
    return float((np.concatenate(told) == np.concatenate(true)).mean())


# Rows are drawn in another order, and Avalanche takes momentum along from dataset to dataset.
TOLERANCE = 0.08


def test_the_naive_head_is_avalanches(lessons: list[Lesson]) -> None:
    from avalanche.training.supervised import Naive

    mine, theirs = learn_naively(lessons, LEARNING_RATE, 0), learn_by_avalanche(Naive, lessons)
    expected = mean_accuracy(theirs, lessons)
    assert mean_accuracy(mine, lessons) == pytest.approx(expected, abs=TOLERANCE)


def test_distillation_is_avalanches(lessons: list[Lesson]) -> None:
    from avalanche.training.supervised import LwF

    mine = learn_with_distillation(lessons, 1.0, 0)
    theirs = learn_by_avalanche(LwF, lessons, alpha=1.0, temperature=LWF_TEMPERATURE)
    expected = mean_accuracy(theirs, lessons)
    assert mean_accuracy(mine, lessons) == pytest.approx(expected, abs=TOLERANCE)


def test_the_penalty_is_avalanches(lessons: list[Lesson]) -> None:
    from avalanche.training.supervised import EWC

    # Avalanche squares the gradient of a batch's mean, which is one over its size of the
    # information of a row, and leaves out the half before the penalty.
    mine = learn_with_penalty(lessons, 10.0, 0)
    theirs = learn_by_avalanche(EWC, lessons, ewc_lambda=10.0 * BATCH / 2)
    expected = mean_accuracy(theirs, lessons)
    assert mean_accuracy(mine, lessons) == pytest.approx(expected, abs=TOLERANCE)


def test_replay_is_avalanches(lessons: list[Lesson]) -> None:
    from avalanche.training.supervised import Replay

    num_rows = ROWS_PER_LABEL * int(lessons[-1].knows_V.sum())
    mine = learn_with_memory(lessons, LEARNING_RATE, 0)
    theirs = learn_by_avalanche(Replay, lessons, mem_size=num_rows)
    expected = mean_accuracy(theirs, lessons)
    assert mean_accuracy(mine, lessons) == pytest.approx(expected, abs=TOLERANCE)
