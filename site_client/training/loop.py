"""The training loop: read it from top to bottom."""

import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import torch
from torch import Tensor, nn

from shared.errors import Code, EchoFedError
from shared.seeding import derive_seed
from site_client.training.checkpoint import Checkpoint, Course, Validation

log = logging.getLogger(__name__)
B = TypeVar("B")


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how fast to learn.

    Args:
        num_batches: steps of an epoch.
        patience: epochs without a better validation after which training stops.
        learning_rate: constant, or the highest of the schedule.
        seconds: after so many no epoch begins; the schedule then follows the clock where that is
            ahead of the steps, and a run is no longer the same bit for bit.
    """

    epochs: int
    num_batches: int
    patience: int
    learning_rate: float
    schedule: Literal["constant", "onecycle", "cosine"]
    seed: int
    seconds: float = math.inf


@dataclass(frozen=True, slots=True)
class Step:
    """Where training stands, for a progress bar.

    Args:
        done: steps done since the start of training.
        total: steps if no early stop comes.
        best: best validation score so far, None before the first.
    """

    epoch: int
    done: int
    total: int
    loss: float
    best: float | None


@dataclass(frozen=True, slots=True)
class Objective(Generic[B]):
    """What to learn and how it is judged.

    Args:
        batches: those of an epoch.
        loss_fn: model and batch -> what is minimised.
        validate: how a model does on frames that it does not learn from.
    """

    batches: Callable[[int], Iterable[B]]
    loss_fn: Callable[[nn.Module, B], Tensor]
    validate: Callable[[nn.Module], Validation]


def train(
    model: nn.Module,
    objective: Objective[B],
    plan: Plan,
    checkpoint: Checkpoint,
    report: Callable[[Step], None],
) -> Course:
    """Train with Adam until the validation stops getting better, and leave the best weights in.

    A validation is better if its score is higher, or as high with a loss that is not higher, so
    the later of equals is kept as in the papers. After a kill the same call goes on from the last
    whole epoch, with the same result bit for bit.

    Raises:
        EchoFedError: FEATURES_NOT_FINITE for a loss that is not finite.
    """
    optimiser = torch.optim.Adam(model.parameters(), lr=plan.learning_rate, fused=True)
    course = checkpoint.restore(model, optimiser)
    while _goes_on(course, plan):
        began = time.monotonic()
        model.train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(plan.seed, "dropout", course.epoch))
            for place, batch in enumerate(objective.batches(course.epoch)):
                done = course.epoch * plan.num_batches + place
                spent = course.seconds + time.monotonic() - began
                for group in optimiser.param_groups:
                    group["lr"] = learning_rate(plan, done, spent)
                loss = objective.loss_fn(model, batch)
                _require_finite(loss.item(), course.epoch)
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                total = plan.epochs * plan.num_batches
                report(Step(course.epoch, done + 1, total, loss.item(), course.best_score))
        model.eval()
        validation = objective.validate(model)
        _require_finite(validation.loss, course.epoch)
        course = course.advance(validation, seconds=time.monotonic() - began)
        checkpoint.save(model, optimiser, course)
        log.info(
            "epoch %d of %d in %.1f s: validation %.3f, loss %.3f",
            course.epoch, plan.epochs, time.monotonic() - began, validation.score, validation.loss,
        )  # fmt: skip
    checkpoint.restore_best(model)
    return course


def learning_rate(plan: Plan, done: float, seconds: float = 0.0) -> float:
    """Rate of the next step, after so many steps and seconds.

    Constant; a cosine up from and down to a 25th within one cycle; or only the way down.
    """
    if plan.schedule == "constant":
        return plan.learning_rate
    total = plan.epochs * plan.num_batches
    done = max(done, total * min(seconds / plan.seconds, 1.0))
    # share of the cycle that rises, as in Smith & Topin 2018 (arXiv 1708.07120)
    rise = 0.3 * total if plan.schedule == "onecycle" else 0.0
    phase = done / rise if done < rise else (total - done) / (total - rise)
    low = plan.learning_rate / 25
    return low + (plan.learning_rate - low) * (1 - math.cos(math.pi * phase)) / 2


def _goes_on(course: Course, plan: Plan) -> bool:
    is_patient = course.epoch - course.best_epoch < plan.patience
    return is_patient and course.epoch < plan.epochs and course.seconds < plan.seconds


def _require_finite(loss: float, epoch: int) -> None:
    if not math.isfinite(loss):
        raise EchoFedError(
            Code.FEATURES_NOT_FINITE,
            f"the training loss is {loss} in epoch {epoch}",
            "lower the learning_rate of what is trained with --set and train again",
        )
