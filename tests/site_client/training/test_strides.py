"""The loop by steps: its average, its budget, and that a killed run goes on as if it had not."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from shared.errors import Code, EchoFedError
from site_client.training.strides import (
    Stride,
    StrideCheckpoint,
    StrideCourse,
    StridePlan,
    average_decay,
    budget_spent,
    follow,
    learning_rate,
    train_by_steps,
)

PLAN = StridePlan(
    stage="line", steps=12, seconds=0.0, batch_size=4, learning_rate=0.05, warm_up=2,
    half_life=20.0, check_every=5, seed=3,
)  # fmt: skip
Outcome = tuple[dict[str, Tensor], StrideCourse]


class KilledError(Exception):
    """Stands for the end of the process."""


class Points:
    """Noisy points on a line, to be met by a line with dropout."""

    def __init__(self, spoil_at: int | None = None) -> None:
        self.drawn: list[int] = []
        self.spoil_at = spoil_at

    def loss(self, network: nn.Module, step: int) -> Tensor:
        generator = torch.Generator().manual_seed(step)
        x_N1 = torch.randn(4, 1, generator=generator)
        loss: Tensor = (network(x_N1) - 2 * x_N1 - 1).square().mean()
        return loss * (math.nan if step == self.spoil_at else 1.0)

    def validate(self, network: nn.Module) -> float:
        assert not network.training
        return float((network(torch.ones(1, 1)) - 3).square().mean())

    def draw(self, network: nn.Module, step: int) -> None:
        self.drawn.append(step)


def line() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(1, 8), nn.Dropout(0.5), nn.Linear(8, 1))


def trained(
    folder: Path,
    plan: StridePlan = PLAN,
    *,
    task: Points | None = None,
    report: Callable[[Stride], None] = lambda _: None,
) -> Outcome:
    checkpoint = StrideCheckpoint(folder)
    average, course = train_by_steps(line(), task or Points(), plan, checkpoint, report)
    return dict(average.state_dict()), course


@pytest.mark.parametrize("killed_at", [3, 5, 8])
def test_a_killed_run_goes_on_to_the_same_weights(tmp_path: Path, killed_at: int) -> None:
    def kill(stride: Stride) -> None:
        if stride.step == killed_at:
            raise KilledError

    whole, course = trained(tmp_path / "whole")
    with pytest.raises(KilledError):
        trained(tmp_path / "killed", report=kill)
    steps: list[int] = []
    resumed, again = trained(tmp_path / "killed", report=lambda stride: steps.append(stride.step))
    assert steps[0] == killed_at // 5 * 5 + 1
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    assert again.history == course.history


def test_it_checks_every_so_often_and_at_the_end(tmp_path: Path) -> None:
    task = Points()
    _, course = trained(tmp_path, task=task)
    assert task.drawn == [5, 10, 12]
    assert [step for step, _ in course.history] == [5, 10, 12]
    assert course.history[-1][1] < course.history[0][1]


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    before, _ = trained(tmp_path)
    task, steps = Points(), []
    after, _ = trained(tmp_path, task=task, report=steps.append)
    assert (steps, task.drawn) == ([], [])
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_seconds_end_a_run_and_only_training_is_counted(tmp_path: Path) -> None:
    _, course = trained(tmp_path, replace(PLAN, steps=0, seconds=0.2))
    assert 0.2 <= course.seconds < 0.5
    assert course.history[-1][0] == course.step > 12


def test_the_nearer_end_is_the_end() -> None:
    plan = replace(PLAN, steps=10, seconds=4.0)
    assert budget_spent(plan, StrideCourse(step=5, seconds=1.0)) == 0.5
    assert budget_spent(plan, StrideCourse(step=5, seconds=3.0)) == 0.75


def test_the_rate_rises_along_a_line_and_falls_along_a_cosine() -> None:
    plan = replace(PLAN, steps=1000, warm_up=10, learning_rate=1.0)
    rates = [learning_rate(plan, StrideCourse(step=step)) for step in (0, 4, 500, 999)]
    assert rates == pytest.approx([0.1, 0.5, 0.5, 0.0], abs=1e-4)
    assert learning_rate(replace(plan, warm_up=0), StrideCourse()) == 1.0


def test_the_average_of_weights_that_move_steadily_lags_by_the_closed_form() -> None:
    """With decay b, weights t g are followed by g (t - b (1 - b^t) / (1 - b))."""
    network, average = nn.Linear(1, 1, bias=False).double(), nn.Linear(1, 1, bias=False).double()
    nn.init.zeros_(average.weight)
    decay, gradient = 0.9, 0.25
    for step in range(1, 31):
        nn.init.constant_(network.weight, step * gradient)
        follow(average, network, decay)
        lag = decay * (1 - decay**step) / (1 - decay)
        assert average.weight.item() == pytest.approx(gradient * (step - lag), abs=1e-12)


def test_half_of_the_average_is_forgotten_within_the_half_life() -> None:
    plan = replace(PLAN, batch_size=10, half_life=200.0)
    late = 1000  # by then the half-life is no longer shortened
    assert average_decay(plan, late) ** (200 / 10) == pytest.approx(0.5)
    assert average_decay(plan, 0) == 0.0
    assert average_decay(plan, 100) == pytest.approx(0.5 ** (10 / 50))
    assert average_decay(replace(plan, half_life=0.0), late) == 0.0


def test_without_an_average_the_network_itself_draws(tmp_path: Path) -> None:
    network = line()
    checkpoint = StrideCheckpoint(tmp_path)
    plan = replace(PLAN, half_life=0.0)
    average, _ = train_by_steps(network, Points(), plan, checkpoint, lambda _: None)
    pairs = zip(average.parameters(), network.parameters(), strict=True)
    assert all(torch.equal(mean, value) for mean, value in pairs)


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(EchoFedError) as refused:
        trained(tmp_path, task=Points(spoil_at=7))
    assert refused.value.code is Code.FEATURES_NOT_FINITE
    assert "step 7" in refused.value.message
