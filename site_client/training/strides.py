"""The loop of autoencoders and denoisers: read it from top to bottom.

Steps instead of epochs, an average of the weights, and a budget of steps or of seconds.
"""

import copy
import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from shared.errors import Code, EchoFedError
from shared.files import load_arrays, save_arrays
from shared.seeding import derive_seed
from site_client.training.checkpoint import (
    CHECKPOINT_FILE,
    adam_tensors,
    prefixed,
    restore_adam,
    under,
)

log = logging.getLogger(__name__)
_MODEL, _AVERAGE = "model.", "average."
_RAMP = 0.05  # the half-life is at most this share of the images seen (Karras et al. 2022, code)


@dataclass(frozen=True, slots=True)
class StridePlan:
    """How long and how fast to learn.

    Args:
        stage: what is trained, in a word.
        steps: at most; 0 for no limit.
        seconds: of training at most, validation and pictures not counted; 0 for no limit.
        learning_rate: after the first ``warm_up`` steps; then half a cosine down to 0.
        half_life: images after which a weight counts half in the average; 0 for no average.
        check_every: steps between validations, pictures and checkpoints.
    """

    stage: str
    steps: int
    seconds: float
    batch_size: int
    learning_rate: float
    warm_up: int
    half_life: float
    check_every: int
    seed: int


@dataclass(frozen=True, slots=True)
class StrideCourse:
    """What a run has been through.

    Args:
        step: whole steps done.
        seconds: of training, those before a kill included.
        history: step and validation loss of each check.
    """

    step: int = 0
    seconds: float = 0.0
    history: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Stride:
    """Where a training by steps stands, for a progress bar.

    Args:
        stage: what is trained.
        share: of the budget, 0 to 1.
        validation: the last validation loss, None before the first.
    """

    stage: str
    step: int
    share: float
    loss: float
    validation: float | None = None


class Task(Protocol):
    """What a network is held to."""

    def loss(self, network: nn.Module, step: int) -> Tensor:
        """What the step minimises; depends on the network and the number of the step alone."""
        ...

    def validate(self, network: nn.Module) -> float:
        """Loss on the validation frames, with the same noise every time."""
        ...

    def draw(self, network: nn.Module, step: int) -> None:
        """Leave a picture of what the network can do."""
        ...


class StrideCheckpoint:
    """The state of one run in a folder whose name stands for everything the run depends on."""

    def __init__(self, folder: Path) -> None:
        """Look at a folder; nothing is created."""
        self._path = folder / CHECKPOINT_FILE

    def save(
        self,
        network: nn.Module,
        average: nn.Module,
        optimiser: torch.optim.Optimizer,
        course: StrideCourse,
    ) -> None:
        """Write weights, their average, Adam's moments and the course, all or nothing.

        Raises:
            EchoFedError: DISK_FULL; the checkpoint before stays.
        """
        tensors = prefixed(_MODEL, network.state_dict()) | adam_tensors(optimiser)
        tensors |= prefixed(_AVERAGE, average.state_dict())
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
        save_arrays(self._path, arrays, {"course": json.dumps(asdict(course))})

    def restore(
        self, network: nn.Module, average: nn.Module, optimiser: torch.optim.Optimizer
    ) -> StrideCourse:
        """Put the last checkpoint back; a new course where there is none.

        Raises:
            EchoFedError: CHECKPOINT_CORRUPT.
        """
        if not self._path.is_file():
            return StrideCourse()
        arrays, metadata = load_arrays(self._path)
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        network.load_state_dict(under(_MODEL, tensors))
        average.load_state_dict(under(_AVERAGE, tensors))
        restore_adam(optimiser, tensors)
        document = json.loads(metadata["course"])
        return StrideCourse(**document | {"history": tuple(map(tuple, document["history"]))})


def train_by_steps(
    network: nn.Module,
    task: Task,
    plan: StridePlan,
    checkpoint: StrideCheckpoint,
    report: Callable[[Stride], None],
) -> tuple[nn.Module, StrideCourse]:
    """Train with Adam until the budget is spent.

    After a kill the same call goes on from the last checkpoint; where the budget is one of steps,
    with the same result bit for bit.

    Returns:
        The network with averaged weights, in evaluation mode, and the course.

    Raises:
        EchoFedError: FEATURES_NOT_FINITE for a loss that is not finite, DISK_FULL.
    """
    optimiser = torch.optim.Adam(network.parameters(), lr=plan.learning_rate, fused=True)
    average = copy.deepcopy(network).eval().requires_grad_(False)
    course = checkpoint.restore(network, average, optimiser)
    network.train()
    while budget_spent(plan, course) < 1:
        began = time.monotonic()
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(plan, course)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(plan.seed, "dropout", course.step))
            loss = task.loss(network, course.step)
        _require_finite(loss.item(), plan.stage, course.step)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        follow(average, network, average_decay(plan, course.step))
        seconds = course.seconds + time.monotonic() - began
        course = replace(course, step=course.step + 1, seconds=seconds)
        share = min(budget_spent(plan, course), 1.0)
        if course.step % plan.check_every == 0 or share == 1:
            validation = task.validate(average)
            _require_finite(validation, plan.stage, course.step)
            course = replace(course, history=(*course.history, (course.step, validation)))
            task.draw(average, course.step)
            checkpoint.save(network, average, optimiser, course)
            log.info("%s, step %d: validation loss %.4f", plan.stage, course.step, validation)
        last = course.history[-1][1] if course.history else None
        report(Stride(plan.stage, course.step, share, loss.item(), last))
    return average, course


def budget_spent(plan: StridePlan, course: StrideCourse) -> float:
    """Share of the budget that is spent, 1 or more at its end."""
    of_steps = course.step / plan.steps if plan.steps else 0.0
    return max(of_steps, course.seconds / plan.seconds if plan.seconds else 0.0)


def learning_rate(plan: StridePlan, course: StrideCourse) -> float:
    """Rate of the next step: a line up over the warm-up, times half a cosine down to 0."""
    rise = min(1.0, (course.step + 1) / plan.warm_up) if plan.warm_up else 1.0
    fall = (1 + math.cos(math.pi * min(budget_spent(plan, course), 1.0))) / 2
    return plan.learning_rate * rise * fall


def average_decay(plan: StridePlan, step: int) -> float:
    """Weight of the average so far in the next one.

    Half of it is forgotten within the half-life, which is shorter at the beginning, so that the
    first weights, which are random, do not linger.
    """
    half_life = min(plan.half_life, _RAMP * step * plan.batch_size)
    return float(0.5 ** (plan.batch_size / half_life)) if half_life > 0 else 0.0


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Let the average move towards the network; buffers are copied."""
    for mean, value in zip(average.parameters(), network.parameters(), strict=True):
        mean.lerp_(value, 1 - decay)
    for kept, current in zip(average.buffers(), network.buffers(), strict=True):
        kept.copy_(current)


def _require_finite(loss: float, stage: str, step: int) -> None:
    if not math.isfinite(loss):
        raise EchoFedError(
            Code.FEATURES_NOT_FINITE,
            f"the loss of the {stage} is {loss} in step {step}",
            "lower the learning_rate of synthesizer or its autoencoder with --set and train again",
        )
