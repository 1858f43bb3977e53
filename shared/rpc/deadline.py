"""Deadlines: every call has one, and long work asks between steps whether it is still wanted."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

import grpc

from shared.errors import Code, EchoFedError

T = TypeVar("T")


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


def expect_wanted(context: grpc.ServicerContext) -> None:
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


def while_wanted(steps: Iterable[T], context: grpc.ServicerContext) -> Iterator[T]:
    """The steps of long work, for as long as somebody waits for its end.

    Raises:
        EchoFedError: DEADLINE_EXCEEDED.
    """
    for step in steps:
        expect_wanted(context)
        yield step
