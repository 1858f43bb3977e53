"""Jobs outlive caller and host, belong to whoever submitted them, and take turns."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shared.errors import Code, EchoFedError
from shared.rpc.job_folder import JobStatus
from shared.rpc.jobs import JobLimits, Jobs, Step
from shared.rpc.peer import Peer

NORTH, SOUTH = Peer("north", "site"), Peer("south", "site")
ROOT = Path(__file__).parents[3]


def spell(request: bytes, owner: Peer) -> Generator[Step, None, None]:
    """A step for each letter; an exclamation mark fails."""
    for place, letter in enumerate(request):
        if letter == ord("!"):
            raise EchoFedError(Code.SECTOR_EMPTY, "nothing to spell", "write letters")
        yield Step(bytes([letter]), place + 1, len(request))


class Pupil:
    """Spells when told to."""

    def __init__(self) -> None:
        self.may, self.inside, self.order = threading.Event(), threading.Event(), []  # type: ignore[var-annotated]

    def __call__(self, request: bytes, owner: Peer) -> Generator[Step, None, None]:
        self.order.append(request)
        for step in spell(request, owner):
            self.inside.set()
            self.may.wait(5.0)
            yield step


def jobs_in(folder: Path, work: object = spell, **limits: float) -> Jobs:
    return Jobs(folder, work, limits=JobLimits(**limits))  # type: ignore[arg-type]


def states(jobs: Jobs, id: str, owner: Peer = NORTH) -> list[JobStatus]:
    return list(jobs.watch(owner, id, expect_wanted=lambda: None))


def refused(call: Callable[[], object]) -> Code:
    with pytest.raises(EchoFedError) as error:
        call()
    return error.value.code


@contextmanager
def held(folder: Path, **limits: float) -> Iterator[tuple[Jobs, Pupil]]:
    """Jobs whose first one stays under way until it may go on, or the host stops."""
    pupil = Pupil()
    jobs = jobs_in(folder, pupil, **limits)
    with jobs.running():
        try:
            yield jobs, pupil
        finally:
            threading.Timer(0.1, pupil.may.set).start()  # when the host has begun to stop


def test_a_job_gives_its_pieces_in_order_as_often_as_asked(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path)
    with jobs.running():
        id = jobs.submit(NORTH, b"heart")
        assert states(jobs, id)[-1] == JobStatus("done", 5, 5)
        for _ in range(2):
            assert b"".join(jobs.result(NORTH, id)) == b"heart"
    assert not (tmp_path / id / "request").exists()


def test_every_state_is_shown_once_and_steps_only_grow(tmp_path: Path) -> None:
    with held(tmp_path) as (jobs, pupil):
        id = jobs.submit(NORTH, b"ab")
        pupil.inside.wait(5.0)
        shown = []
        for status in jobs.watch(NORTH, id, expect_wanted=lambda: None):
            shown.append(status)
            pupil.may.set()
    assert len(set(shown)) == len(shown)
    assert [one.done for one in shown] == sorted(one.done for one in shown)
    assert (shown[0].state, shown[-1].state) == ("running", "done")


def test_the_job_of_another_is_as_unknown_as_one_that_never_was(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path)
    with jobs.running():
        id = jobs.submit(NORTH, b"heart")
        states(jobs, id)
        told = set()
        for asker, asked in ((SOUTH, id), (Peer("north", "operator"), id), (NORTH, "0" * 32)):
            for call in (
                lambda: states(jobs, asked, asker),  # noqa: B023
                lambda: jobs.result(asker, asked),  # noqa: B023
                lambda: jobs.cancel(asker, asked),  # noqa: B023
            ):
                with pytest.raises(EchoFedError) as error:
                    call()
                told.add(str(error.value))
        assert len(told) == 1
        assert error.value.code is Code.JOB_UNKNOWN
        assert b"".join(jobs.result(NORTH, id)) == b"heart"


def test_a_result_is_there_when_the_host_runs_again(tmp_path: Path) -> None:
    first = jobs_in(tmp_path)
    with first.running():
        id, failing = first.submit(NORTH, b"heart"), first.submit(NORTH, b"he!rt")
        done, failed = states(first, id)[-1], states(first, failing)[-1]
    again = jobs_in(tmp_path)
    with again.running():
        assert states(again, id) == [done]
        assert str(states(again, failing)[-1].failure) == str(failed.failure)
        assert b"".join(again.result(NORTH, id)) == b"heart"
        assert refused(lambda: again.result(NORTH, failing)) is Code.SECTOR_EMPTY


def test_what_waited_or_ran_when_the_host_stopped_is_done_by_the_next(tmp_path: Path) -> None:
    with held(tmp_path) as (jobs, pupil):
        ids = [jobs.submit(NORTH, word) for word in (b"heart", b"lung")]
        pupil.inside.wait(5.0)
    assert not (tmp_path / ids[0] / "end.json").exists()
    again = jobs_in(tmp_path)
    with again.running():
        assert [states(again, id)[-1].state for id in ids] == ["done", "done"]
        assert [b"".join(again.result(NORTH, id)) for id in ids] == [b"heart", b"lung"]


KILLED = """
import sys, time
from pathlib import Path
from shared.rpc.jobs import JobLimits, Jobs, Step
from shared.rpc.peer import Peer

def work(request, owner):
    yield Step(b"half", 1, 2)
    print(id, flush=True)
    time.sleep(60)

jobs = Jobs(Path(sys.argv[1]), work, limits=JobLimits())
with jobs.running():
    id = jobs.submit(Peer("north", "site"), b"heart")
    time.sleep(60)
"""


def test_a_job_that_ran_when_the_host_was_killed_begins_again(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as host:
        assert host.stdout is not None
        id = host.stdout.readline().strip()
        os.kill(host.pid, signal.SIGKILL)
    assert (tmp_path / id / "result").read_bytes().endswith(b"half")
    (tmp_path / ".0123").mkdir()  # a request that was half stored
    again = jobs_in(tmp_path)
    with again.running():
        assert states(again, id)[-1] == JobStatus("done", 5, 5)
        assert b"".join(again.result(NORTH, id)) == b"heart"
    assert sorted(path.name for path in tmp_path.iterdir()) == [id]


def test_a_job_that_takes_the_host_down_is_not_begun_for_ever(tmp_path: Path) -> None:
    with held(tmp_path) as (jobs, pupil):
        id = jobs.submit(NORTH, b"heart")
        pupil.inside.wait(5.0)
        starts = (tmp_path / id / "starts").read_bytes()
    (tmp_path / id / "starts").write_bytes(3 * starts)
    again = jobs_in(tmp_path, num_starts=3)
    with again.running():
        failure = states(again, id)[-1].failure
    assert failure is not None
    assert failure.code is Code.RUN_FAILED


def test_a_stop_in_good_order_counts_as_no_start(tmp_path: Path) -> None:
    for _ in range(4):
        with held(tmp_path, num_starts=1) as (jobs, pupil):
            if not list(tmp_path.iterdir()):
                jobs.submit(NORTH, b"heart")
            assert pupil.inside.wait(5.0)
    (id,) = (path.name for path in tmp_path.iterdir())
    again = jobs_in(tmp_path, num_starts=1)
    with again.running():
        assert states(again, id)[-1].state == "done"


def test_a_cancelled_job_stops_between_two_steps_and_stays_cancelled(tmp_path: Path) -> None:
    closed = threading.Event()

    def endless(request: bytes, owner: Peer) -> Generator[Step, None, None]:
        try:
            for place in range(10**9):
                time.sleep(0.01)
                yield Step(b"x", place, 10**9)
        finally:
            closed.set()

    jobs = jobs_in(tmp_path, endless)
    with jobs.running():
        running, queued = jobs.submit(NORTH, b"a"), jobs.submit(NORTH, b"b")
        time.sleep(0.05)
        assert jobs.cancel(NORTH, queued).state == "cancelled"
        assert jobs.cancel(NORTH, running).state == "cancelled"
        assert closed.wait(5.0)
        assert refused(lambda: jobs.result(NORTH, running)) is Code.RESULT_MISSING
    again = jobs_in(tmp_path)
    with again.running():
        assert {states(again, id)[-1].state for id in (running, queued)} == {"cancelled"}
        assert again.cancel(NORTH, queued).state == "cancelled"
    assert not list(tmp_path.glob("*/result"))


def test_a_job_that_is_done_is_not_cancelled(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path)
    with jobs.running():
        id = jobs.submit(NORTH, b"heart")
        states(jobs, id)
        assert jobs.cancel(NORTH, id).state == "done"
        assert b"".join(jobs.result(NORTH, id)) == b"heart"


def test_an_unfinished_job_has_no_result(tmp_path: Path) -> None:
    with held(tmp_path) as (jobs, _):
        id = jobs.submit(NORTH, b"heart")
        assert refused(lambda: jobs.result(NORTH, id)) is Code.RESULT_MISSING


def test_who_has_enough_waiting_is_sent_away_and_leaves_room(tmp_path: Path) -> None:
    with held(tmp_path, num_waiting=3, num_per_owner=2) as (jobs, pupil):
        first = jobs.submit(NORTH, b"a")
        jobs.submit(NORTH, b"b")
        assert refused(lambda: jobs.submit(NORTH, b"c")) is Code.SERVICE_BUSY
        jobs.submit(SOUTH, b"d")
        assert refused(lambda: jobs.submit(SOUTH, b"e")) is Code.SERVICE_BUSY
        assert len(list(tmp_path.iterdir())) == 3
        pupil.may.set()
        states(jobs, first)
        jobs.submit(NORTH, b"c")


def test_callers_take_turns(tmp_path: Path) -> None:
    with held(tmp_path) as (jobs, pupil):
        mine = [jobs.submit(NORTH, word) for word in (b"n1", b"n2", b"n3")]
        pupil.inside.wait(5.0)
        for word in (b"s1", b"s2"):
            jobs.submit(SOUTH, word)
        pupil.may.set()
        for id in mine:
            states(jobs, id)
    assert pupil.order == [b"n1", b"s1", b"n2", b"s2", b"n3"]


def test_a_job_has_an_end(tmp_path: Path) -> None:
    with held(tmp_path, longest_s=0.05) as (jobs, pupil):
        id = jobs.submit(NORTH, b"heart")
        pupil.inside.wait(5.0)
        time.sleep(0.1)
        pupil.may.set()
        failure = states(jobs, id)[-1].failure
    assert failure is not None
    assert failure.code is Code.DEADLINE_EXCEEDED


def test_a_result_is_kept_for_its_time_and_then_removed(tmp_path: Path) -> None:
    clock = [1000.0]
    jobs = Jobs(tmp_path, spell, limits=JobLimits(keep_s=60.0), now_s=lambda: clock[0])
    with jobs.running():
        id = jobs.submit(NORTH, b"heart")
        states(jobs, id)
        clock[0] += 59.0
        reading = jobs.result(NORTH, id)
        pieces = [next(reading)]
        clock[0] += 2.0
        assert refused(lambda: jobs.result(NORTH, id)) is Code.JOB_UNKNOWN
        pieces.extend(reading)  # who began to read reads on
    assert b"".join(pieces) == b"heart"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_result_is_told(tmp_path: Path, damage: str) -> None:
    jobs = jobs_in(tmp_path)
    with jobs.running():
        id = jobs.submit(NORTH, b"heart")
        states(jobs, id)
        path = tmp_path / id / "result"
        data = path.read_bytes()
        path.write_bytes(data[:-1] if damage == "cut" else data[:-1] + b"T")
        code = refused(lambda: list(jobs.result(NORTH, id)))
    assert code is Code.CHECKPOINT_CORRUPT


def test_a_damaged_job_hinders_no_other(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path)
    with jobs.running():
        good, bad = jobs.submit(NORTH, b"good"), jobs.submit(NORTH, b"bad")
        states(jobs, bad)
    (tmp_path / bad / "job.json").write_text("{}")
    again = jobs_in(tmp_path)
    with again.running():
        assert states(again, good)[-1].state == "done"
        assert refused(lambda: states(again, bad)) is Code.JOB_UNKNOWN


@pytest.mark.parametrize("text", ["{", "{}", '{"state": "odd", "failure": null}'])
def test_a_damaged_end_is_a_failed_job_and_hinders_no_other(tmp_path: Path, text: str) -> None:
    jobs = jobs_in(tmp_path)
    with jobs.running():
        bad = jobs.submit(NORTH, b"bad")
        states(jobs, bad)
    (tmp_path / bad / "end.json").write_text(text)
    again = jobs_in(tmp_path)
    with again.running():
        failed = states(again, bad)[-1]
        assert states(again, again.submit(NORTH, b"good"))[-1].state == "done"
    assert failed.failure is not None
    assert (failed.state, failed.failure.code) == ("failed", Code.CHECKPOINT_CORRUPT)


def test_the_text_of_a_bug_stays_with_the_host(tmp_path: Path) -> None:
    def stumble(request: bytes, owner: Peer) -> Generator[Step, None, None]:
        yield Step(b"", 0, 1)
        raise FileNotFoundError("studies/MUELLER^HANS/1.dcm")

    jobs = jobs_in(tmp_path, stumble)
    with jobs.running():
        id = jobs.submit(NORTH, b"heart")
        failure = states(jobs, id)[-1].failure
    assert failure is not None
    assert (failure.code, "MUELLER" in str(failure)) == (Code.INTERNAL, False)
    assert "MUELLER" not in json.dumps((tmp_path / id / "end.json").read_text())


def test_a_watcher_learns_that_the_host_stops(tmp_path: Path) -> None:
    codes = []
    with held(tmp_path) as (jobs, pupil):
        id = jobs.submit(NORTH, b"heart")
        pupil.inside.wait(5.0)
        watcher = threading.Thread(target=lambda: codes.append(refused(lambda: states(jobs, id))))
        watcher.start()
        time.sleep(0.1)
    watcher.join(5.0)
    assert codes == [Code.CENTRE_UNREACHABLE]
    assert refused(lambda: jobs.submit(NORTH, b"late")) is Code.CENTRE_UNREACHABLE


def test_who_stops_watching_is_noticed(tmp_path: Path) -> None:
    def gone() -> None:
        raise EchoFedError(Code.DEADLINE_EXCEEDED, "gone")

    with held(tmp_path) as (jobs, _):
        id = jobs.submit(NORTH, b"heart")
        watching = jobs.watch(NORTH, id, expect_wanted=gone)
        assert refused(lambda: next(watching)) is Code.DEADLINE_EXCEEDED
