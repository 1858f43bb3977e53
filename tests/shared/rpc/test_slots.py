"""Places are as many as said, one caller cannot take them all, and each is given back."""

import threading
from contextlib import ExitStack

import pytest

from shared.errors import Code, EchoFedError
from shared.rpc.slots import Slots


def is_refused(slots: Slots, caller: str) -> bool:
    try:
        with slots.place(caller):
            return False
    except EchoFedError as error:
        return error.code is Code.SERVICE_BUSY


def test_a_busy_caller_leaves_room_for_another() -> None:
    slots = Slots(3, num_per_caller=2)
    with slots.place("north"), slots.place("north"):
        assert is_refused(slots, "north")
        assert not is_refused(slots, "south")
        with slots.place("south"):
            assert is_refused(slots, "east")
    assert not is_refused(slots, "north")


def test_a_place_is_given_back_after_an_error() -> None:
    slots = Slots(1, num_per_caller=1)
    for _ in range(3):
        with pytest.raises(ValueError, match="broken"), slots.place("north"):
            raise ValueError("broken")


def test_never_more_than_said_under_many_threads() -> None:
    slots, most, inside = Slots(4, num_per_caller=4), [0], []

    def come_and_go() -> None:
        for _ in range(300):
            with ExitStack() as stack:
                try:
                    stack.enter_context(slots.place("north"))
                except EchoFedError:
                    continue
                inside.append(1)
                most[0] = max(most[0], len(inside))
                inside.pop()

    threads = [threading.Thread(target=come_and_go) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= most[0] <= 4
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(slots.place("north"))
