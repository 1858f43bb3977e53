import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from shared.errors import Code, EchoFedError
from shared.models.loss import label_set_loss
from site_client.training.batches import Batch, batch_loss, split_order
from site_client.training.checkpoint import Checkpoint, Course, Validation
from site_client.training.loop import Objective, Plan, learning_rate, train

LOSS = partial(batch_loss, label_set_loss)


def course_of(
    scores: Sequence[float], folder: Path, *, patience: int, seconds: float = math.inf
) -> tuple[Course, nn.Module]:
    """Train a line through noise, with validations that are given; epoch n is judged n-th."""
    given = iter(scores)

    def batches(epoch: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(epoch)
        images = torch.randn(4, 1, 2, 2, generator=generator)
        yield Batch(images, torch.tensor([[True, False]] * 4), torch.ones(4))

    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    objective = Objective(batches, LOSS, lambda model: Validation(next(given), 1.0))
    plan = Plan(len(scores), 1, patience, 0.1, "constant", 0, seconds)
    return train(model, objective, plan, Checkpoint(folder), lambda step: None), model


def test_training_stops_after_so_many_epochs_without_a_better_score(tmp_path: Path) -> None:
    course, _ = course_of([0.1, 0.5, 0.4, 0.3, 0.2, 0.9], tmp_path, patience=2)
    assert course.epoch == 4
    assert course.best_epoch == 2


def test_weights_of_the_best_epoch_are_left_in_the_model(tmp_path: Path) -> None:
    _, model = course_of([0.1, 0.5, 0.4, 0.3], tmp_path / "long", patience=9)
    _, short = course_of([0.1, 0.5], tmp_path / "short", patience=9)
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), short.parameters(), strict=True)
    )


def test_validation_that_is_not_finite_is_an_error(tmp_path: Path) -> None:
    def broken(model: nn.Module) -> Validation:
        return Validation(0.5, float("nan"))

    plan = Plan(1, 1, 1, 0.1, "constant", 0)
    objective = Objective(lambda epoch: [], LOSS, broken)
    with pytest.raises(EchoFedError) as refusal:
        train(nn.Linear(1, 1), objective, plan, Checkpoint(tmp_path), lambda step: None)
    assert refusal.value.code == Code.FEATURES_NOT_FINITE


@pytest.mark.parametrize(
    ("num", "sizes"), [(64, [32, 32]), (65, [32, 33]), (66, [32, 32, 2]), (1, [1])]
)
def test_single_frame_left_over_joins_the_batch_before(num: int, sizes: list[int]) -> None:
    parts = split_order(np.arange(num), 32)
    assert [len(part) for part in parts] == sizes
    assert np.array_equal(np.concatenate(parts), np.arange(num))


def test_later_of_equal_validations_is_kept() -> None:
    course = Course()
    for score, loss in ((0.5, 1.0), (0.8, 0.7), (0.8, 0.9), (0.8, 0.7), (0.7, 0.1)):
        course = course.advance(Validation(score, loss), seconds=1.0)
    assert (course.best_epoch, course.best_score, course.best_loss) == (4, 0.8, 0.7)
    assert course.epoch == 5
    assert course.seconds == 5.0


def test_one_cycle_starts_low_peaks_and_ends_low() -> None:
    plan = Plan(10, 10, 3, 1e-3, "onecycle", 0)
    rates = [learning_rate(plan, done) for done in range(101)]
    assert max(rates) == pytest.approx(1e-3)
    assert rates.index(max(rates)) == 30
    assert rates[0] == pytest.approx(rates[-1])
    assert rates[0] == pytest.approx(1e-3 / 25)


def test_cosine_begins_at_the_highest_rate_and_only_falls() -> None:
    plan = Plan(10, 10, 3, 1e-3, "cosine", 0)
    rates = [learning_rate(plan, done) for done in range(101)]
    assert rates[0] == pytest.approx(1e-3)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(1e-3 / 25)


def test_constant_rate_is_constant() -> None:
    plan = Plan(10, 10, 3, 1e-3, "constant", 0)
    assert {learning_rate(plan, done) for done in range(100)} == {1e-3}


def test_cosine_follows_the_clock_where_that_is_ahead_of_the_steps() -> None:
    plan = Plan(10, 10, 3, 1e-3, "cosine", 0, seconds=60.0)
    assert learning_rate(plan, 20, 30.0) == learning_rate(plan, 50)
    assert learning_rate(plan, 50, 3.0) == learning_rate(plan, 50)
    assert learning_rate(plan, 50, 90.0) == pytest.approx(1e-3 / 25)


def test_no_epoch_begins_after_so_many_seconds(tmp_path: Path) -> None:
    course, _ = course_of([0.1, 0.2, 0.3], tmp_path, patience=3, seconds=1e-9)
    assert course.epoch == 1
