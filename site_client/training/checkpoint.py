"""Checkpoints of a training run: one safetensors file an epoch, from which a killed run goes on."""

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from shared.echo.manifest import DatasetManifest
from shared.files import load_arrays, save_arrays, sha256_hex
from shared.settings import Settings, hash_settings

CHECKPOINT_FILE = "checkpoint.safetensors"
_MODEL, _BEST, _ADAM = "model.", "best.", "adam."


@dataclass(frozen=True, slots=True)
class Validation:
    """How a model does on the validation frames.

    Args:
        score: balanced accuracy in the dataset's own vocabulary, mean over datasets.
        loss: mean loss of the frames.
    """

    score: float
    loss: float


@dataclass(frozen=True, slots=True)
class Course:
    """What a run has been through.

    Args:
        epoch: whole epochs done.
        best_epoch: number of epochs after which the best validation came, 0 before the first.
        history: score and loss of each epoch.
        seconds: wall-clock time of all epochs, those before a kill included.
    """

    epoch: int = 0
    best_epoch: int = 0
    best_score: float | None = None
    best_loss: float = math.inf
    history: tuple[tuple[float, float], ...] = ()
    seconds: float = 0.0

    def advance(self, validation: Validation, *, seconds: float) -> "Course":
        """The course after one more epoch."""
        epoch = self.epoch + 1
        later = replace(
            self,
            epoch=epoch,
            history=(*self.history, (validation.score, validation.loss)),
            seconds=self.seconds + seconds,
        )
        if not self._is_beaten_by(validation):
            return later
        return replace(
            later, best_epoch=epoch, best_score=validation.score, best_loss=validation.loss
        )

    def _is_beaten_by(self, validation: Validation) -> bool:
        if self.best_score is None or validation.score > self.best_score:
            return True
        return validation.score == self.best_score and validation.loss <= self.best_loss


class Checkpoint:
    """The state of one run in a folder whose name stands for everything the run depends on."""

    def __init__(self, folder: Path) -> None:
        """Look at a folder; nothing is created."""
        self._path = folder / CHECKPOINT_FILE
        self._best: dict[str, Tensor] = {}

    def save(self, model: nn.Module, optimiser: torch.optim.Adam, course: Course) -> None:
        """Write model, best model, Adam's moments and the course, all or nothing.

        Raises:
            EchoFedError: DISK_FULL; the checkpoint before stays.
        """
        if course.best_epoch == course.epoch:
            self._best = {name: value.clone() for name, value in model.state_dict().items()}
        tensors = prefixed(_MODEL, model.state_dict()) | prefixed(_BEST, self._best)
        tensors |= adam_tensors(optimiser)
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
        save_arrays(self._path, arrays, {"course": json.dumps(asdict(course))})

    def restore(self, model: nn.Module, optimiser: torch.optim.Adam) -> Course:
        """Put the last whole epoch back into model and optimiser; a new course where there is none.

        Raises:
            EchoFedError: CHECKPOINT_CORRUPT.
        """
        if not self._path.is_file():
            return Course()
        arrays, metadata = load_arrays(self._path)
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        model.load_state_dict(under(_MODEL, tensors))
        self._best = under(_BEST, tensors)
        restore_adam(optimiser, tensors)
        document = json.loads(metadata["course"])
        return Course(**document | {"history": tuple(map(tuple, document["history"]))})

    def restore_best(self, model: nn.Module) -> None:
        """Put the weights of the best validation into the model."""
        model.load_state_dict(self._best)

    def restore_last(self, model: nn.Module) -> None:
        """Put the weights of the last whole epoch into the model, however it was judged.

        Raises:
            EchoFedError: CHECKPOINT_CORRUPT.
        """
        arrays, _ = load_arrays(self._path)
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        model.load_state_dict(under(_MODEL, tensors))

    def remove(self) -> None:
        """Forget the run; its expert is stored."""
        shutil.rmtree(self._path.parent, ignore_errors=True)


def run_name(
    kind: str, settings: Settings, manifests: Sequence[DatasetManifest], parent_sha256: str = ""
) -> str:
    """Folder of a run: the same for the same settings, datasets and first weights."""
    parts = [hash_settings(settings), *(manifest.content_hash() for manifest in manifests)]
    return f"{kind}-{sha256_hex(' '.join([*parts, parent_sha256]).encode())[:16]}"


def adam_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Adam's moments by name, for a checkpoint."""
    tensors: dict[str, Tensor] = {}
    for number, state in optimiser.state_dict()["state"].items():
        tensors |= prefixed(f"{_ADAM}{number}.", state)
    return tensors


def restore_adam(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put the moments of a checkpoint back into Adam."""
    for number, parameter in enumerate(optimiser.param_groups[0]["params"]):
        found = under(f"{_ADAM}{number}.", tensors)
        if found:
            moments = {n: _laid_out(t, parameter) for n, t in found.items() if n != "step"}
            step = found["step"].reshape(()).to(parameter.device)
            optimiser.state[parameter] = {"step": step, **moments}


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under longer names."""
    return {prefix + name: tensor for name, tensor in tensors.items()}


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin so, under the rest of their names."""
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _laid_out(tensor: Tensor, like: Tensor) -> Tensor:
    """A moment in its parameter's memory layout, so that sums run in the same order as before."""
    return torch.empty_like(like, requires_grad=False).copy_(tensor)
