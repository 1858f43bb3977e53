"""What waits for a model: who comes next, and what can be computed together."""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from shared.errors import Code, EchoFedError
from shared.rpc.deadline import Call, expect_wanted
from shared.rpc.process import Arrays


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model made of a request.

    Args:
        arrays: its outputs, with as many rows as the request.
        argument: names the model, as it was built or swapped.
        waited_s: from the request's arrival to its first batch.
        computed_s: from there to its end.
    """

    arrays: Arrays
    argument: str
    waited_s: float
    computed_s: float


@dataclass(eq=False, slots=True)
class Request:
    """Rows of one call, and what has become of them.

    Args:
        arrays: equally many rows each.
        caller: whose turn it takes.
        call: says whether somebody still waits.
        begun_s: when its first rows were taken; 0 before.
        parts: outputs of the rows that are done.
        is_alone: it failed in company and is tried once more by itself.
        num_losses: processes that ended while they computed it.
    """

    arrays: Arrays
    caller: str
    call: Call
    arrived_s: float = field(default_factory=time.monotonic)
    begun_s: float = 0.0
    parts: list[Arrays] = field(default_factory=list)
    is_alone: bool = False
    num_losses: int = 0
    argument: str = ""
    error: Exception | None = None
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def num_rows(self) -> int:
        return len(self.arrays[0])

    @property
    def num_done(self) -> int:
        return sum(len(part[0]) for part in self.parts)

    @property
    def kind(self) -> tuple[object, ...]:
        """What requests of one batch have in common."""
        return tuple((array.dtype.str, array.shape[1:]) for array in self.arrays)

    def fail(self, error: Exception) -> None:
        """End without an answer."""
        self.error = error
        self.ended.set()

    def answer(self) -> Answer:
        """The outcome, once it has ended.

        Raises:
            Exception: what it failed with.
        """
        if self.error is not None:
            raise self.error
        arrays = tuple(
            pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
            for pieces in zip(*self.parts, strict=True)
        )
        waited_s = self.begun_s - self.arrived_s
        return Answer(arrays, self.argument, waited_s, time.monotonic() - self.begun_s)


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of one request that are computed at once."""

    request: Request
    start: int
    stop: int

    @property
    def arrays(self) -> Arrays:
        return tuple(array[self.start : self.stop] for array in self.request.arrays)


class Queue:
    """Requests that wait, by caller; callers take turns. Not to be used by two threads at once."""

    def __init__(self, max_waiting: int) -> None:
        """Keep the bound on requests."""
        self._max_waiting = max_waiting
        self._callers: OrderedDict[str, deque[Request]] = OrderedDict()

    def __len__(self) -> int:
        """Count the requests."""
        return sum(len(requests) for requests in self._callers.values())

    def __iter__(self) -> Iterator[Request]:
        """All requests, by caller."""
        return (request for requests in list(self._callers.values()) for request in list(requests))

    def add(self, request: Request) -> None:
        """Let a request wait behind the others of its caller.

        Raises:
            EchoFedError: SERVICE_BUSY.
        """
        if len(self) >= self._max_waiting:
            raise EchoFedError(
                Code.SERVICE_BUSY, "the model has as much work as it takes", "try again in a while"
            )
        self._callers.setdefault(request.caller, deque()).append(request)

    def put_back(self, request: Request) -> None:
        """Let a request that is not done wait before the others of its caller."""
        self._callers.setdefault(request.caller, deque()).appendleft(request)

    def remove(self, request: Request) -> None:
        """Forget a request, if it waits."""
        requests = self._callers.get(request.caller, deque())
        if request in requests:
            requests.remove(request)
        if not requests:
            self._callers.pop(request.caller, None)

    def has_begun(self) -> bool:
        """Tell whether some request waits for the rest of its rows."""
        return any(request.parts for request in self)

    def due_s(self, *, max_batch: int, latency_s: float) -> float:
        """Seconds until a batch should start: 0 if it is full or its time has come."""
        first = next(iter(self), None)
        if first is None:
            return float("inf")
        alike = [request for request in self if request.kind == first.kind]
        if first.is_alone or sum(one.num_rows - one.num_done for one in alike) >= max_batch:
            return 0.0
        oldest_s = min(request.arrived_s for request in self)
        return max(oldest_s + latency_s - time.monotonic(), 0.0)

    def take(self, *, max_batch: int, begun_only: bool) -> list[Piece]:
        """Take the rows of the next batch out of the queue, and drop what nobody waits for.

        Args:
            max_batch: rows at most.
            begun_only: take only from requests of which rows are done already.

        Returns:
            Pieces of as many rows as fit, in turns of the callers; none if none is wanted.
        """
        self._drop_unwanted()
        pieces: list[Piece] = []
        room = max_batch
        while room and (request := self._next(pieces, begun_only=begun_only)):
            self.remove(request)
            if request.caller in self._callers:
                self._callers.move_to_end(request.caller)
            start = request.num_done
            stop = min(request.num_rows, start + room)
            pieces.append(Piece(request, start, stop))
            room -= stop - start
        return pieces

    def _next(self, pieces: list[Piece], *, begun_only: bool) -> Request | None:
        first = pieces[0].request if pieces else None
        for request in self:
            fits = first is None or (
                request.kind == first.kind and not request.is_alone and not first.is_alone
            )
            if fits and (request.parts or not begun_only):
                return request
        return None

    def _drop_unwanted(self) -> None:
        for request in self:
            try:
                expect_wanted(request.call)
            except EchoFedError as error:
                self.remove(request)
                request.fail(error)
