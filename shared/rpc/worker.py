"""A model beside the service's threads: what they ask at the same time is computed together."""

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from types import TracebackType
from typing import Any, Self

from numpy.typing import NDArray

from shared.errors import Code, EchoFedError
from shared.rpc.batching import Answer, Piece, Queue, Request
from shared.rpc.deadline import Call, expect_wanted
from shared.rpc.process import Arrays, ForwardFailed, ModelProcess, ProcessLost

log = logging.getLogger(__name__)
_LOOK_S = 0.1  # between two looks at whether a caller still waits and an idle process still lives
_MAX_WAITING = 64  # requests that may wait at once
_STUCK_S = 30.0  # beyond the last deadline of its batch a process is taken for dead


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a worker has done so far, and what waits for it.

    Args:
        num_requests: that were answered.
        num_rows: that were computed, and in how many batches.
        num_restarts: of a process that had ended.
        num_waiting: requests that no batch has taken yet.
    """

    num_requests: int = 0
    num_rows: int = 0
    num_batches: int = 0
    num_restarts: int = 0
    num_waiting: int = 0


class Worker:
    """Runs a model in a process of its own, which is restarted if it ends before its time.

    Requests that wait together and agree in dtypes and shapes (but for the rows) are computed as
    one batch; callers take turns. A batch in which something failed is tried once more, each
    request by itself, so that none suffers for another. Close it, or hold it by ``with``.
    """

    def __init__(
        self,
        build: str,
        argument: str,
        *,
        latency_s: float,
        max_batch: int,
        threads: int,
        longest_batch_s: float | None = None,
    ) -> None:
        """Build the model.

        Args:
            build: ``"module:attribute"`` of a function that makes a ``Forward`` of the argument.
            argument: names the model, such as its folder.
            latency_s: how long a request may wait for company while the process is idle.
            max_batch: rows of one batch; a longer request is computed in pieces.
            threads: that the process may compute with.
            longest_batch_s: after which the process is taken for dead; by default half a minute
                beyond the last deadline of the batch, which suits rows of milliseconds.

        Raises:
            EchoFedError: what the function refuses the argument by; WORKER_LOST where the process
                ends before the model stands.
            ForwardFailed: for any other error in the function.
        """
        self._build, self._threads = build, threads
        self._latency_s, self._max_batch = latency_s, max_batch
        self._longest_batch_s = longest_batch_s
        self._argument = argument
        self._process: ModelProcess | None = self._start(argument)
        self._next: ModelProcess | None = None
        self._retired: ModelProcess | None = None
        self._next_argument = ""
        self._queue = Queue(_MAX_WAITING)
        self._done = Statistics()
        self._is_closing = self._is_closed = False
        self._changed = threading.Condition()
        self._swapping = threading.Lock()
        self._thread = threading.Thread(target=self._live, name="batches", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        """Hold the worker."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    @property
    def pid(self) -> int | None:
        """The process that computes now, unless none could be started."""
        process = self._process
        return process.pid if process else None

    def statistics(self) -> Statistics:
        with self._changed:
            return replace(self._done, num_waiting=len(self._queue))

    def run(self, arrays: Sequence[NDArray[Any]], *, caller: str, call: Call) -> Answer:
        """Compute, and wait for the answer.

        Args:
            arrays: the forward's arguments, of equally many rows and at least one.
            caller: whose turn it takes.
            call: a service's context or a ``Deadline``; nothing is begun that nobody waits for.

        Raises:
            EchoFedError: SHAPE_MISMATCH for arrays that make no rows, SERVICE_BUSY,
                DEADLINE_EXCEEDED, WORKER_LOST, or as the model raised it.
            ForwardFailed: for any other error in the model.
        """
        _expect_rows(arrays)
        request = Request(tuple(arrays), caller, call)
        with self._changed:
            self._expect_open()
            self._queue.add(request)
            self._changed.notify_all()
        while not request.ended.wait(_LOOK_S):
            try:
                expect_wanted(call)
            except EchoFedError:
                with self._changed:
                    self._queue.remove(request)
                raise
        return request.answer()

    def swap(self, argument: str) -> None:
        """Change the model: the new one is built while the old one serves.

        Every request is computed by one of the two alone. While both stand, both take memory.

        Raises:
            EchoFedError: what the function refuses the argument by, or WORKER_LOST; the old model
                serves on.
            ForwardFailed: for any other error in the function; the old model serves on.
        """
        with self._swapping:
            self._expect_open()
            new = self._start(argument)
            with self._changed:
                self._next, self._next_argument = new, argument
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._next is None or self._is_closed)
                needless = self._next or self._retired
                self._next = self._retired = None
            if needless is not None:
                needless.end()
            if needless is new:
                self._expect_open()

    def close(self) -> None:
        """Take no more requests, compute those that wait, and end the process."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._thread.join()

    def _live(self) -> None:
        while (pieces := self._due()) is not None:
            try:
                process = self._living(is_wanted=bool(pieces))
            except (EchoFedError, ForwardFailed) as error:
                self._fail(pieces, error)
                continue
            if pieces and process is not None:
                self._compute(process, pieces)
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if self._process is not None:
            self._process.end()

    def _due(self) -> list[Piece] | None:
        """The next batch; none yet after a while without one, and no list at the end of all."""
        with self._changed:
            if self._next is not None and not self._queue.has_begun():
                self._process, self._retired = self._next, self._process
                self._argument, self._next = self._next_argument, None
                self._changed.notify_all()
            due_s = self._queue.due_s(max_batch=self._max_batch, latency_s=self._latency_s)
            if self._is_closing:
                due_s = 0.0
            if due_s > 0.0:
                self._changed.wait(min(due_s, _LOOK_S))
                return []
            pieces = self._queue.take(max_batch=self._max_batch, begun_only=self._next is not None)
            is_over = self._is_closing and not pieces and not len(self._queue)
            return None if is_over else pieces

    def _living(self, *, is_wanted: bool) -> ModelProcess | None:
        """The process, started anew where it ended; one that cannot be, only for a request."""
        if self._process is not None and not self._process.is_alive:
            log.warning("the worker's process has ended and is started again")
            self._process.end()
            self._process, is_wanted = None, True
        if self._process is None and is_wanted:
            self._process = self._start(self._argument)
            self._count(num_restarts=1)
        return self._process

    def _compute(self, process: ModelProcess, pieces: list[Piece]) -> None:
        for piece in pieces:
            piece.request.begun_s = piece.request.begun_s or time.monotonic()
        longest_s = self._longest_batch_s
        if longest_s is None:
            left_s = max(piece.request.call.time_remaining() or 0.0 for piece in pieces)
            longest_s = left_s + _STUCK_S
        columns = zip(*(piece.arrays for piece in pieces), strict=True)
        try:
            parts = _parted(process.compute(columns, longest_s=longest_s), pieces)
        except ProcessLost:
            process.end()
            self._lose(pieces)
        except Exception as error:  # noqa: BLE001  goes to the caller, as from a future
            self._again(pieces, error)
        else:
            self._deliver(pieces, parts)

    def _deliver(self, pieces: list[Piece], parts: list[Arrays]) -> None:
        answered = [piece.request for piece in pieces if piece.stop == piece.request.num_rows]
        num_rows = sum(piece.stop - piece.start for piece in pieces)
        self._count(num_requests=len(answered), num_rows=num_rows, num_batches=1)
        with self._changed:
            for piece, part in zip(pieces, parts, strict=True):
                piece.request.parts.append(part)
                piece.request.argument = self._argument
                if piece.request not in answered:
                    self._queue.put_back(piece.request)
        for request in answered:
            request.ended.set()

    def _again(self, pieces: list[Piece], error: Exception) -> None:
        """Try each request by itself; the error is one's own that has been."""
        if len(pieces) == 1:
            pieces[0].request.fail(error)
            return
        with self._changed:
            for piece in reversed(pieces):
                piece.request.is_alone = True
                self._queue.put_back(piece.request)

    def _lose(self, pieces: list[Piece]) -> None:
        """Try each request by itself, unless it has lost a process before."""
        with self._changed:
            for request in (piece.request for piece in reversed(pieces)):
                request.num_losses += 1
                request.is_alone = True
                if request.num_losses > 1:
                    request.fail(_lost("ended twice in the middle of this request"))
                else:
                    self._queue.put_back(request)

    def _fail(self, pieces: list[Piece], error: Exception) -> None:
        """Without a process nothing that waits can be computed."""
        log.error("the worker's process could not be started again: %s", type(error).__name__)
        with self._changed:
            waiting = list(self._queue)
            for request in waiting:
                self._queue.remove(request)
        for request in (*waiting, *(piece.request for piece in pieces)):
            request.fail(error)

    def _start(self, argument: str) -> ModelProcess:
        try:
            return ModelProcess(self._build, argument, threads=self._threads)
        except (ProcessLost, OSError) as error:  # OSError where the machine is full
            raise _lost("ended before its model stood") from error

    def _expect_open(self) -> None:
        if self._is_closing:
            raise _lost("has been closed")

    def _count(self, **more: int) -> None:
        with self._changed:
            now = {name: getattr(self._done, name) + number for name, number in more.items()}
            self._done = replace(self._done, **now)


def _parted(outputs: Arrays, pieces: list[Piece]) -> list[Arrays]:
    """Each piece's own rows, out of the memory that the next batch overwrites."""
    ends = list(accumulate(piece.stop - piece.start for piece in pieces))
    return [
        tuple(output[start:end].copy() for output in outputs) for start, end in pairwise([0, *ends])
    ]


def _expect_rows(arrays: Sequence[NDArray[Any]]) -> None:
    lengths = {array.shape[:1] for array in arrays}
    if len(lengths) != 1 or lengths <= {(), (0,)} or any(one.dtype.hasobject for one in arrays):
        raise EchoFedError(
            Code.SHAPE_MISMATCH,
            f"arrays of {[array.shape for array in arrays]} are not equally many rows of numbers",
            "send at least one row, and as many in each array",
        )


def _lost(what: str) -> EchoFedError:
    return EchoFedError(Code.WORKER_LOST, f"the model's process {what}", "try again in a while")
