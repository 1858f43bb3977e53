"""A call has a deadline whether or not it names one, and ends with the caller's interest in it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from shared.rpc.channel import Channel


class Endless:
    """gRPC's side of a call whose answers do not end."""

    def __init__(self) -> None:
        self.is_cancelled = False

    def __iter__(self) -> Iterator[int]:
        while True:
            yield 0

    def cancel(self) -> None:
        self.is_cancelled = True


class Wire:
    """gRPC's channel, noting deadlines."""

    def __init__(self) -> None:
        self.deadlines: list[float] = []
        self.call = Endless()

    def __getattr__(self, kind: str) -> Callable[..., Any]:
        def call(request: object, *, timeout: float) -> Endless:
            self.deadlines.append(timeout)
            return self.call

        return lambda *args, **kwargs: call


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream", "stream_unary", "stream_stream"])
def test_a_call_has_its_own_deadline_or_the_channels(kind: str) -> None:
    wire = Wire()
    call = getattr(Channel(wire, deadline_s=7.0), kind)("/a/b")
    call(b"")
    call(b"", timeout=3.0)
    assert wire.deadlines == [7.0, 3.0]


@pytest.mark.parametrize("kind", ["unary_stream", "stream_stream"])
def test_who_stops_listening_stops_the_work(kind: str) -> None:
    wire = Wire()
    answers = getattr(Channel(wire, deadline_s=7.0), kind)("/a/b")(b"")
    next(answers)
    assert not wire.call.is_cancelled
    answers.close()
    assert wire.call.is_cancelled
