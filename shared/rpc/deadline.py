"""Deadlines: every call has one, and long work asks between steps whether it is still wanted."""

import time
from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

import grpc

from shared.errors import Code, EchoFedError

T = TypeVar("T")


class Call(Protocol):
    """What long work asks of the call that it is done for; ``grpc.ServicerContext`` is one."""

    def is_active(self) -> bool:
        """Tell whether the caller is still there."""

    def time_remaining(self) -> float | None:
        """Seconds to the deadline."""


class Deadline:
    """The call of somebody in this very process, who does not go away."""

    def __init__(self, seconds: float) -> None:
        """Start the clock."""
        self._end_s = time.monotonic() + seconds

    def is_active(self) -> bool:
        return True

    def time_remaining(self) -> float:
        return max(self._end_s - time.monotonic(), 0.0)


def expect_deadline(context: grpc.ServicerContext, *, longest_s: float) -> None:
    """Check that a call ends by itself, and soon enough.

    Raises:
        EchoFedError: DEADLINE_EXCEEDED for a call without a deadline or with a later one.
    """
    remaining_s = context.time_remaining()
    if remaining_s is None or remaining_s > longest_s:
        raise EchoFedError(
            Code.DEADLINE_EXCEEDED,
            f"a call must name a deadline of at most {longest_s:g} s",
            "set one; longer work is asked for in parts",
        )


def expect_wanted(context: Call) -> None:
    """Check, between two steps of long work, that somebody still waits for its end.

    Raises:
        EchoFedError: DEADLINE_EXCEEDED where the deadline is over or the caller has gone.
    """
    if not context.is_active() or (context.time_remaining() or 0) <= 0:
        raise EchoFedError(
            Code.DEADLINE_EXCEEDED,
            "the work was not done by its deadline",
            "allow more time, or ask for less at once",
        )


def while_wanted(steps: Iterable[T], call: Call) -> Iterator[T]:
    """The steps of long work, for as long as somebody waits for its end.

    Raises:
        EchoFedError: DEADLINE_EXCEEDED.
    """
    for step in steps:
        expect_wanted(call)
        yield step
