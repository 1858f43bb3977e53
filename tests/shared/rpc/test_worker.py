"""A worker loses no request: not in company, not in a swap, and not with its process."""

import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest

from shared.errors import Code, EchoFedError
from shared.rpc.batching import Answer
from shared.rpc.deadline import Deadline
from shared.rpc.process import ForwardFailed
from shared.rpc.translate import refusal_of
from shared.rpc.worker import Worker
from shared.testing.forwards import DIES, RAISES, REFUSES

BUILD = "shared.testing.forwards:build"
MAX_BATCH = 8


def started(
    argument: str | Path, *, latency_s: float = 0.0, longest_batch_s: float | None = None
) -> Worker:
    return Worker(
        BUILD,
        str(argument),
        latency_s=latency_s,
        max_batch=MAX_BATCH,
        threads=1,
        longest_batch_s=longest_batch_s,
    )


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with started("3") as worker:
        yield worker


def ask(
    worker: Worker, tag: float = 1.0, *, takes_s: float = 0.0, rows: int = 1, caller: str = "north"
) -> Answer:
    return worker.run([np.tile([tag, takes_s], (rows, 1))], caller=caller, call=Deadline(20.0))


def code_of(call: Callable[[], object]) -> Code:
    with pytest.raises(EchoFedError) as refused:
        call()
    return refused.value.code


class Seen(Deadline):
    """A call that tells when it was first asked for, which is once it waits in the queue."""

    def __init__(self) -> None:
        super().__init__(20.0)
        self.asked = threading.Event()

    def is_active(self) -> bool:
        self.asked.set()
        return True


@contextlib.contextmanager
def held(worker: Worker, *, waiting: int = 0) -> Iterator[Future[Answer]]:
    """Stop the process in the middle of a request, until so many others wait behind it."""
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGSTOP)
    call = Seen()
    with ThreadPoolExecutor(1) as pool:
        holder = pool.submit(worker.run, [np.zeros((1, 2))], caller="holder", call=call)
        call.asked.wait(10.0)
        until(lambda: worker.statistics().num_waiting == 0)
        yield holder
        until(lambda: worker.statistics().num_waiting == waiting)
        if worker.pid is not None:
            os.kill(worker.pid, signal.SIGCONT)
        holder.result()


def until(is_so: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 20.0
    while not is_so():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def test_what_comes_together_is_computed_together(worker: Worker) -> None:
    before = worker.statistics()
    with ThreadPoolExecutor(8) as pool, held(worker, waiting=8):
        asked = [pool.submit(ask, worker, float(k), caller=f"site{k}") for k in range(8)]
    answers = [one.result() for one in asked]
    assert [one.arrays[0][0, 0] for one in answers] == [3.0 * k for k in range(8)]
    assert {tuple(one.arrays[1][0]) for one in answers} == {tuple(answers[0].arrays[1][0])}
    done = worker.statistics()
    assert done.num_batches - before.num_batches == 2
    assert done.num_requests - before.num_requests == done.num_rows - before.num_rows == 9


def test_an_idle_process_waits_for_company_until_the_batch_is_full_or_the_time_over() -> None:
    with started("3", latency_s=1.0) as worker, ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(ask, worker, rows=4) for _ in range(2)]
        assert [one.result().arrays[1][0, 1] for one in asked] == [8, 8]
        assert max(one.result().waited_s for one in asked) < 1.0
        lone = ask(worker)
    assert lone.waited_s >= 1.0
    assert lone.arrays[1][0, 1] == 1


def test_every_caller_gets_the_answer_to_its_own_rows(worker: Worker, seed: int) -> None:
    def calls(caller: int) -> bool:
        generator = np.random.default_rng([seed, caller])
        agree = []
        for _ in range(15):
            shape = (int(generator.integers(1, 20)), int(generator.integers(2, 4)))
            rows = np.full(shape, caller + generator.random())
            rows[:, 1] = 0.0
            answer = worker.run([rows], caller=f"site{caller}", call=Deadline(20.0))
            agree.append(np.array_equal(answer.arrays[0], rows * 3.0))
        return all(agree)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(calls, range(8)))


def test_a_request_of_more_rows_than_a_batch_is_computed_in_pieces(worker: Worker) -> None:
    rows = np.arange(20.0)[:, None] * [1.0, 0.0]
    answer = worker.run([rows], caller="north", call=Deadline(20.0))
    np.testing.assert_array_equal(answer.arrays[0], rows * 3.0)
    assert list(answer.arrays[1][:, 1]) == [8] * 16 + [4] * 4


@pytest.mark.parametrize("bad", [[], [np.zeros((0, 2))], [np.zeros((2, 2)), np.zeros((3, 2))]])
def test_arrays_that_make_no_rows_are_refused(worker: Worker, bad: list[np.ndarray]) -> None:
    refused = code_of(lambda: worker.run(bad, caller="north", call=Deadline(20.0)))
    assert refused is Code.SHAPE_MISMATCH


def test_a_request_that_fails_does_not_fail_its_company(worker: Worker) -> None:
    tags = [1.0, RAISES, 2.0, REFUSES]
    pid = worker.pid
    with ThreadPoolExecutor(4) as pool, held(worker, waiting=4):
        asked = [pool.submit(ask, worker, tag) for tag in tags]
    assert [asked[k].result().arrays[0][0, 0] for k in (0, 2)] == [3.0, 6.0]
    assert code_of(asked[3].result) is Code.SECTOR_EMPTY
    with pytest.raises(ForwardFailed, match="a row of patient Weber") as failed:
        asked[1].result()
    assert "Weber" not in refusal_of(failed.value).details
    assert worker.pid == pid


def test_a_killed_process_is_replaced_and_its_requests_are_computed_again(worker: Worker) -> None:
    before, pid = worker.statistics().num_restarts, worker.pid
    assert pid is not None
    with ThreadPoolExecutor(1) as pool, held(worker) as begun:
        asked = pool.submit(ask, worker, 7.0)
        until(lambda: worker.statistics().num_waiting == 1)
        os.kill(pid, signal.SIGKILL)
    assert begun.result().arrays[1][0, 2] == worker.pid != pid
    assert asked.result().arrays[0][0, 0] == 21.0
    assert worker.statistics().num_restarts == before + 1


def test_who_ends_the_process_twice_is_told_and_its_company_is_answered(worker: Worker) -> None:
    with ThreadPoolExecutor(3) as pool, held(worker, waiting=3):
        asked = [pool.submit(ask, worker, tag) for tag in (1.0, DIES, 2.0)]
    assert code_of(asked[1].result) is Code.WORKER_LOST
    assert [asked[k].result().arrays[0][0, 0] for k in (0, 2)] == [3.0, 6.0]


def test_a_process_that_gives_no_answer_is_replaced_once_nobody_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shared.rpc.worker._STUCK_S", 0.1)
    monkeypatch.setattr("shared.rpc.process._LONGEST_END_S", 0.1)
    with started("3") as worker:
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGSTOP)
        call = Deadline(0.2)
        stuck = code_of(lambda: worker.run([np.zeros((1, 2))], caller="north", call=call))
        assert stuck is Code.DEADLINE_EXCEEDED
        assert ask(worker, 2.0).arrays[0][0, 0] == 6.0


def test_a_long_batch_is_known_by_its_own_limit_not_by_who_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shared.rpc.worker._STUCK_S", 0.0)
    monkeypatch.setattr("shared.rpc.process._LONGEST_END_S", 0.1)
    with started("3", longest_batch_s=1.5) as worker:
        before = worker.pid
        late = code_of(
            lambda: worker.run([np.array([[1.0, 0.4]])], caller="north", call=Deadline(0.2))
        )
        assert late is Code.DEADLINE_EXCEEDED
        assert ask(worker).arrays[0][0, 0] == 3.0
        assert worker.pid == before
        assert before is not None
        os.kill(before, signal.SIGSTOP)
        assert ask(worker, 2.0).arrays[0][0, 0] == 6.0
        assert worker.statistics().num_restarts == 1


def test_a_swap_under_load_drops_nothing_and_mixes_no_models() -> None:
    answers, stop = [], threading.Event()

    def call(worker: Worker, caller: str) -> None:
        while not stop.is_set():
            answers.append(ask(worker, 1.0, takes_s=0.005, rows=20, caller=caller))

    with started("2") as worker, ThreadPoolExecutor(6) as pool:
        load = [pool.submit(call, worker, f"site{k}") for k in range(6)]
        worker.swap("5")
        num_before = len(answers)
        until(lambda: len(answers) > num_before + 12)
        stop.set()
        assert [one.result() for one in load] == [None] * 6
    assert {one.argument for one in answers} == {"2", "5"}
    assert {one.argument for one in answers[num_before + 6 :]} == {"5"}
    for one in answers:
        assert set(one.arrays[0][:, 0]) == {float(one.argument)}
        assert len(set(one.arrays[1][:, 2])) == 1


def test_a_model_that_cannot_be_built_is_told_and_the_old_one_serves_on(worker: Worker) -> None:
    assert code_of(lambda: worker.swap("torn")) is Code.CHECKPOINT_CORRUPT
    assert ask(worker).argument == "3"


def test_a_model_that_rots_is_told_to_callers_until_it_is_mended(tmp_path: Path) -> None:
    model = tmp_path / "factor"
    model.write_text("4")
    with started(model) as worker:
        model.write_text("torn")
        os.kill(worker.pid, signal.SIGKILL)
        assert code_of(lambda: ask(worker)) is Code.CHECKPOINT_CORRUPT
        model.write_text("4")
        assert ask(worker, 2.0).arrays[0][0, 0] == 8.0


def test_what_is_not_begun_by_its_deadline_is_never_computed(worker: Worker) -> None:
    before = worker.statistics().num_rows
    late = np.zeros((3, 2))
    with held(worker):
        begin_s = time.monotonic()
        refused = code_of(lambda: worker.run([late], caller="north", call=Deadline(0.1)))
        told_s = time.monotonic() - begin_s
    ask(worker)
    assert told_s < 3.0  # and not when the process has time
    assert refused is Code.DEADLINE_EXCEEDED
    assert worker.statistics().num_rows == before + 2


class _Gone:
    """A call whose caller has vanished."""

    def is_active(self) -> bool:
        return False

    def time_remaining(self) -> float:
        return 60.0


def test_the_work_of_a_vanished_caller_is_dropped(worker: Worker) -> None:
    before = worker.statistics().num_rows
    with held(worker):
        gone = code_of(lambda: worker.run([np.zeros((3, 2))], caller="north", call=_Gone()))
    ask(worker)
    assert gone is Code.DEADLINE_EXCEEDED
    assert worker.statistics().num_rows == before + 2


def test_a_closed_worker_has_answered_all_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shared.rpc.worker._MAX_WAITING", 2)
    gc.collect()
    here = psutil.Process()
    num_open, family = here.num_fds(), set(here.children())
    with started("3") as worker, ThreadPoolExecutor(2) as pool:
        pid = worker.pid
        with held(worker, waiting=2):
            asked = [pool.submit(ask, worker, takes_s=0.2) for _ in range(2)]
            until(lambda: worker.statistics().num_waiting == 2)
            assert code_of(lambda: ask(worker)) is Code.SERVICE_BUSY
        worker.close()
        assert [one.result().arrays[0][0, 0] for one in asked] == [3.0] * 2
    assert code_of(lambda: ask(worker)) is Code.WORKER_LOST
    assert code_of(lambda: worker.swap("5")) is Code.WORKER_LOST
    gc.collect()
    assert not psutil.pid_exists(pid)
    assert set(here.children()) <= family
    assert here.num_fds() <= num_open


_HOST = f"""
import time
from shared.rpc.worker import Worker
if __name__ == "__main__":
    worker = Worker({BUILD!r}, "3", latency_s=0.0, max_batch=1, threads=1)
    print(worker.pid, flush=True)
    time.sleep(60)
"""


def test_the_process_ends_with_a_killed_host(tmp_path: Path) -> None:
    script = tmp_path / "host.py"
    script.write_text(_HOST)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        process = psutil.Process(int(host.stdout.readline()))
        host.kill()
    process.wait(5.0)


@pytest.mark.parametrize("num", [500, pytest.param(5000, marks=pytest.mark.slow)])
def test_memory_does_not_grow_with_requests(worker: Worker, num: int) -> None:
    rows = np.zeros((4, 16384))  # half a MiB

    def held() -> int:
        gc.collect()
        pids = os.getpid(), worker.pid
        return sum(psutil.Process(pid).memory_info().rss for pid in pids)

    for _ in range(50):
        worker.run([rows], caller="north", call=Deadline(20.0))
    before = held()
    for _ in range(num):
        worker.run([rows], caller="north", call=Deadline(20.0))
    assert held() - before < 8 * 1024 * 1024
