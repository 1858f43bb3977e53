"""The models of a host by alias; they compute in processes of their own.

Where an alias moves, the new model's process is built beside the old one's. What has been begun is
ended by the model that began it, for a clip is of one network; the old process ends when nobody
holds it any more.
"""

import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from shared.echo.model_card import ModelCard, ModelKind, load_model_files
from shared.errors import Code, EchoFedError
from shared.rpc.deadline import Call
from shared.rpc.peer import Peer
from shared.rpc.process import ForwardFailed
from shared.rpc.settings import WorkerSettings
from shared.rpc.worker import Statistics, Worker

log = logging.getLogger(__name__)
_LOOK_EVERY_S = 1.0  # for aliases that moved
_RETRY_S = 60.0  # a model that could not be built; somebody may mend its file

Aliases = Callable[[], Mapping[str, Path]]
"""What each alias stands for now: the folder of a model, named by its id."""
Load = Callable[[Path], tuple[ModelCard, bytes]]


@dataclass(frozen=True, slots=True)
class _Work:
    """How models of a kind compute.

    Args:
        build: what makes the forward of a model's folder.
        max_batch: rows at once.
        longest_batch_s: see ``Worker``.
    """

    build: str
    max_batch: Callable[[WorkerSettings], int]
    longest_batch_s: float | None = None


_WORK: Mapping[ModelKind, _Work] = {
    "segmenter": _Work(
        "shared.segmentation.segmenter:build_stored", lambda settings: settings.max_batch
    ),
    # a batch may be begun with its order's last second, and takes minutes at the worst
    "synthesizer": _Work(
        "shared.synthesis.semantic:build_stored", lambda settings: settings.max_drawn, 900.0
    ),
}


class RunningModels:
    """Models that start when they are first asked for."""

    def __init__(
        self, aliases: Aliases, settings: WorkerSettings, *, load: Load = load_model_files
    ) -> None:
        """Keep what the house knows; nothing is read before ``running``.

        Args:
            aliases: asked once a second at most.
            settings: of the processes.
            load: reads a folder and refuses what this house does not trust.
        """
        self._aliases, self._settings, self._load = aliases, settings, load
        self._folders: Mapping[str, Path] = {}
        self._read_s = float("-inf")
        self._models: dict[str, _Model] = {}
        self._retired: list[_Model] = []
        self._refused: dict[str, tuple[Path, float]] = {}
        self._lock = threading.Lock()
        self._starting = threading.Lock()
        self._over = threading.Event()
        self._over.set()

    @contextmanager
    def running(self) -> Iterator["RunningModels"]:
        """Follow the aliases; at the end the processes compute what waits, and end.

        A server that answers with them must have stopped by then.
        """
        self._over.clear()
        follower = threading.Thread(target=self._follow, name="aliases", daemon=True)
        follower.start()
        try:
            yield self
        finally:
            self._over.set()
            follower.join()
            with self._starting, self._lock:
                for model in (*self._models.values(), *self._retired):
                    model.worker.close()
                self._models, self._retired = {}, []

    def held(
        self, kind: ModelKind, names: Iterable[str], *, caller: Peer, call: Call
    ) -> "list[tuple[ModelCard, Forward]]":
        """Those of the names that stand for models of a kind; the first to ask waits for them.

        Returns:
            The card of each and its network for this call; it serves while that is held.

        Raises:
            EchoFedError: SERVICE_BUSY where as many models stand as may; WORKER_LOST after the end;
                what refuses the folder, such as CHECKPOINT_CORRUPT.
        """
        folders = self._current()
        known = [name for name in names if name in folders]
        for name in known:
            self._ensure(name, folders[name], kind)
        with self._lock:
            found = [self._models[name] for name in known if name in self._models]
            return [
                (model.card, model.forward(caller, call))
                for model in found
                if model.card.kind == kind
            ]

    def statistics(self) -> dict[str, Statistics]:
        """What the process of each alias has done since the alias moved last."""
        with self._lock:
            running = dict(self._models)
        return {name: model.worker.statistics() for name, model in running.items()}

    def _current(self) -> Mapping[str, Path]:
        if time.monotonic() - self._read_s > _LOOK_EVERY_S:
            self._folders = self._aliases()
            self._read_s = time.monotonic()
        return self._folders

    def _ensure(self, name: str, folder: Path, kind: ModelKind) -> None:
        if name in self._models:
            return
        with self._starting:
            if self._over.is_set():
                raise EchoFedError(Code.WORKER_LOST, "the host stops", "try again in a while")
            if name in self._models:
                return
            if len(self._models) >= self._settings.num_models:
                raise EchoFedError(
                    Code.SERVICE_BUSY,
                    f"{len(self._models)} models stand already, which is as many as may",
                    "ask one of them, or let the host's operator raise num_models",
                )
            card, _ = self._load(folder)
            if card.kind != kind:
                return
            model = _Model(folder, card, self._settings)
            with self._lock:
                self._models[name] = model
        log.info("%s answers to %s", model.card.id, name)

    def _follow(self) -> None:
        while not self._over.wait(_LOOK_EVERY_S):
            try:
                self._look()
            except Exception:  # the edge of a thread; without it no alias would move again
                log.exception("the aliases could not be followed")

    def _look(self) -> None:
        with self._lock:
            running = dict(self._models)
        if running:
            folders = self._current()
            for name, model in running.items():
                if name not in folders:
                    self._put(name, None)
                    log.warning("%s stands for nothing any more", name)
                elif folders[name] != model.folder:
                    self._replace(name, folders[name])
        with self._lock:
            idle = [model for model in self._retired if not model.is_held]
            self._retired = [model for model in self._retired if model not in idle]
        for model in idle:
            model.worker.close()

    def _replace(self, name: str, folder: Path) -> None:
        """Build the new one beside the old one, which serves on if that fails."""
        refused, until_s = self._refused.get(name, (folder, 0.0))
        if refused == folder and time.monotonic() < until_s:
            return
        try:
            with self._starting:
                model = _Model(folder, self._load(folder)[0], self._settings)
        except (EchoFedError, ForwardFailed) as error:
            why = error.code.name if isinstance(error, EchoFedError) else "its network failed"
            log.error("%s cannot be %s, and the one before serves on: %s", folder.name, name, why)
            self._refused[name] = (folder, time.monotonic() + _RETRY_S)
            return
        self._put(name, model)
        log.info("%s answers to %s now", model.card.id, name)

    def _put(self, name: str, model: "_Model | None") -> None:
        with self._lock:
            self._retired.append(self._models.pop(name))
            if model is not None:
                self._models[name] = model


class _Model:
    """One model with its process."""

    def __init__(self, folder: Path, card: ModelCard, settings: WorkerSettings) -> None:
        import torch

        torch.set_num_threads(1)  # of this process: what is around a network is small, calls many
        work = _WORK[card.kind]
        self.folder, self.card = folder, card
        self.worker = Worker(
            work.build,
            str(folder),
            latency_s=settings.latency_ms / 1000.0,
            max_batch=work.max_batch(settings),
            threads=settings.threads,
            longest_batch_s=work.longest_batch_s,
        )
        self._forwards: weakref.WeakSet[Forward] = weakref.WeakSet()

    @property
    def is_held(self) -> bool:
        """Whether somebody has its network in hand."""
        return len(self._forwards) > 0

    def forward(self, caller: Peer, call: Call) -> "Forward":
        made = Forward(self.worker, caller, call)
        self._forwards.add(made)
        return made


class Forward:
    """The network of a model for one call."""

    def __init__(self, worker: Worker, caller: Peer, call: Call) -> None:
        """Keep for whom it computes, and until when."""
        self._worker, self._call = worker, call
        self._caller = f"{caller.name}.{caller.role}"

    def __call__(self, *arrays: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        """Compute rows; raises as ``Worker.run``."""
        return self._worker.run(arrays, caller=self._caller, call=self._call).arrays
