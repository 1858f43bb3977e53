"""The segmenters of a host by alias; their networks compute in processes of their own.

Where an alias moves, the new segmenter's process is built beside the old one's. What has been begun
is ended by the segmenter that began it, for a clip is of one network; the old process ends when
nobody holds it any more.
"""

import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from shared.echo.segmenter import SegmenterCard, load_segmenter_files
from shared.errors import Code, EchoFedError
from shared.rpc.deadline import Call
from shared.rpc.peer import Peer
from shared.rpc.process import ForwardFailed
from shared.rpc.settings import WorkerSettings
from shared.rpc.worker import Statistics, Worker

if TYPE_CHECKING:  # a host of other services needs no networks
    from shared.segmentation.answer import Segmenters
    from shared.segmentation.segmenter import Floats, Segmenter

log = logging.getLogger(__name__)
SERVING = "serving"
"""Stands for the segmenters of both kinds that go by the names of ``PARTS``."""
PARTS = ("segmentation-masks", "segmentation-contours")
_BUILD = "shared.segmentation.segmenter:build_stored"
_LOOK_EVERY_S = 1.0  # for aliases that moved
_RETRY_S = 60.0  # a segmenter that could not be built; somebody may mend its file

Aliases = Callable[[], Mapping[str, Path]]
"""What each alias stands for now: the folder of a segmenter, named by its id."""
Load = Callable[[Path], tuple[SegmenterCard, bytes]]


class RunningSegmenters:
    """A ``SegmenterStore`` whose segmenters start when they are first asked for."""

    def __init__(
        self, aliases: Aliases, settings: WorkerSettings, *, load: Load = load_segmenter_files
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
    def running(self) -> Iterator["RunningSegmenters"]:
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

    def find(self, alias: str, *, caller: Peer, call: Call) -> "Segmenters":
        """The segmenters that an alias stands for now; the first to ask waits for their processes.

        Raises:
            EchoFedError: MODEL_UNKNOWN; SERVICE_BUSY where as many models stand as may; WORKER_LOST
                after the end; what refuses the folder, such as CHECKPOINT_CORRUPT.
        """
        from shared.segmentation.answer import Segmenters

        folders = self._current()
        known = [name for name in (PARTS if alias == SERVING else (alias,)) if name in folders]
        for name in known:
            self._ensure(name, folders[name])
        with self._lock:
            found = [self._models[name] for name in known if name in self._models]
            ready = [model.segmenter(caller, call) for model in found]
        if not ready:
            raise EchoFedError(
                Code.MODEL_UNKNOWN,
                f"no segmenter here is called {alias[:80]!r}",
                "ask the host what it serves",
            )
        return Segmenters(**{one.card.answers: one for one in ready})

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

    def _ensure(self, name: str, folder: Path) -> None:
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
            model = _Model(folder, self._load, self._settings)
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
                model = _Model(folder, self._load, self._settings)
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
    """One segmenter with its process."""

    def __init__(self, folder: Path, load: Load, settings: WorkerSettings) -> None:
        import torch

        torch.set_num_threads(1)  # of this process: what is around a network is small, calls many
        self.folder = folder
        self.card, _ = load(folder)
        self.worker = Worker(
            _BUILD,
            str(folder),
            latency_s=settings.latency_ms / 1000.0,
            max_batch=settings.max_batch,
            threads=settings.threads,
        )
        self._forwards: weakref.WeakSet[_Forward] = weakref.WeakSet()

    @property
    def is_held(self) -> bool:
        """Whether somebody has a segmenter of it in hand."""
        return len(self._forwards) > 0

    def segmenter(self, caller: Peer, call: Call) -> "Segmenter":
        from shared.segmentation.segmenter import Segmenter

        forward = _Forward(self.worker, caller, call)
        self._forwards.add(forward)
        return Segmenter(self.card, forward)


class _Forward:
    """The network for one call."""

    def __init__(self, worker: Worker, caller: Peer, call: Call) -> None:
        self._worker, self._call = worker, call
        self._caller = f"{caller.name}.{caller.role}"

    def __call__(self, image_N1HW: "Floats", mm_per_pixel_N2: "Floats") -> "tuple[Floats, ...]":
        arrays = (image_N1HW, mm_per_pixel_N2)
        return self._worker.run(arrays, caller=self._caller, call=self._call).arrays
