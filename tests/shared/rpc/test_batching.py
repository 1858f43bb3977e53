"""What is computed together, in whose turn, and what is dropped before it is."""

import math
from typing import Any

import numpy as np
import pytest

from shared.errors import Code, EchoFedError
from shared.rpc.batching import Queue, Request
from shared.rpc.deadline import Deadline


def request(caller: str = "north", rows: int = 1, width: int = 2, **more: Any) -> Request:
    return Request((np.zeros((rows, width)),), caller, more.pop("call", Deadline(60.0)), **more)


def queue_of(*requests: Request) -> Queue:
    queue = Queue(64)
    for one in requests:
        queue.add(one)
    return queue


def take(queue: Queue, *, max_batch: int = 4, begun_only: bool = False) -> list[tuple[str, int]]:
    pieces = queue.take(max_batch=max_batch, begun_only=begun_only)
    for piece in pieces:
        piece.request.parts.append(piece.arrays)
        if piece.stop < piece.request.num_rows:
            queue.put_back(piece.request)
    return [(piece.request.caller, piece.stop - piece.start) for piece in pieces]


def test_a_batch_takes_from_each_caller_in_turn() -> None:
    queue = queue_of(*(request("north") for _ in range(6)), *(request("south") for _ in range(2)))
    assert take(queue) == [("north", 1), ("south", 1), ("north", 1), ("south", 1)]
    assert take(queue) == [("north", 1)] * 4


def test_a_long_request_does_not_keep_another_caller_waiting() -> None:
    queue = queue_of(request("north", rows=14), request("north", rows=14), request("south"))
    assert take(queue) == [("north", 4)]
    assert take(queue) == [("south", 1), ("north", 3)]
    assert [sum(rows for _, rows in take(queue)) for _ in range(6)] == [4, 4, 4, 4, 4, 1]


def test_only_arrays_alike_but_for_rows_are_computed_together() -> None:
    narrow, wide = request("north", width=2), request("south", width=3)
    single = Request((np.zeros((1, 2), np.float32),), "east", Deadline(60.0))
    queue = queue_of(narrow, wide, single, request("west", width=2))
    assert [take(queue) for _ in range(3)] == [
        [("north", 1), ("west", 1)],
        [("south", 1)],
        [("east", 1)],
    ]


def test_a_request_that_failed_in_company_gets_none() -> None:
    failed = request("north", is_alone=True)
    queue = queue_of(request("south"), failed, request("east"))
    assert [take(queue) for _ in range(2)] == [[("south", 1), ("east", 1)], [("north", 1)]]


def test_a_full_batch_is_due_at_once_and_a_lone_row_after_the_latency() -> None:
    def due_s(*requests: Request) -> float:
        return queue_of(*requests).due_s(max_batch=4, latency_s=5.0)

    assert due_s() == math.inf
    assert 4.5 < due_s(request()) <= 5.0
    assert 4.5 < due_s(request(rows=3), request(width=3)) <= 5.0
    assert due_s(request(rows=3), request("south")) == 0.0
    assert due_s(request(is_alone=True)) == 0.0


def test_rows_of_a_begun_request_go_before_all_others_where_only_those_may() -> None:
    queue = queue_of(request("north", rows=6), request("south"))
    take(queue)
    assert queue.has_begun()
    assert take(queue, begun_only=True) == [("north", 2)]
    assert take(queue, begun_only=True) == []
    assert not queue.has_begun()


def test_what_nobody_waits_for_is_dropped() -> None:
    late = request(call=Deadline(0.0))
    queue = queue_of(late, request("south"))
    assert take(queue) == [("south", 1)]
    with pytest.raises(EchoFedError) as refused:
        late.answer()
    assert refused.value.code is Code.DEADLINE_EXCEEDED


def test_a_full_queue_takes_no_more_until_a_caller_leaves() -> None:
    queue, first = Queue(1), request()
    queue.add(first)
    with pytest.raises(EchoFedError) as refused:
        queue.add(request("south"))
    assert refused.value.code is Code.SERVICE_BUSY
    queue.remove(first)
    queue.add(request("south"))
    assert len(queue) == 1
