"""Long jobs: submitted, watched and fetched by id, also after caller or host were gone for a while.

A job that was running when the host died begins again. It belongs to the caller who submitted it;
for all others there is no such job.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from shared.errors import Code, EchoFedError
from shared.rpc.job_folder import JobFolder, JobRecord, JobStatus
from shared.rpc.peer import Peer
from shared.rpc.translate import told_of

log = logging.getLogger(__name__)
_LOOK_EVERY_S = 0.5  # whether a watcher is still there, and what was kept long enough


@dataclass(frozen=True, slots=True)
class Step:
    """A piece of the result, and how far the work is with it."""

    piece: bytes
    done: int
    total: int


Work = Callable[[bytes, Peer], Generator[Step, None, None]]
"""Request and owner -> steps; it may be closed between two of them, and begun again."""


@dataclass(frozen=True, slots=True)
class JobLimits:
    """What is taken, and for how long it is kept.

    Args:
        num_running: jobs at once.
        num_waiting: jobs that have not ended, of all callers.
        num_per_owner: jobs that have not ended, of one caller.
        num_starts: how often a job may begin: one that takes the host down ends there.
        longest_s: how long a job may run.
        keep_s: how long a job can be asked for once it has ended.
    """

    num_running: int = 1
    num_waiting: int = 32
    num_per_owner: int = 8
    num_starts: int = 3
    longest_s: float = 3600.0
    keep_s: float = 86_400.0


@dataclass(slots=True)
class _Job:
    record: JobRecord
    status: JobStatus
    ended_s: float = 0.0


class Jobs:
    """The jobs of a host; callers take turns, each caller's jobs run in the order of arrival."""

    def __init__(
        self,
        root: Path,
        work: Work,
        *,
        limits: JobLimits,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        """Keep where and how; nothing is touched before ``running``.

        Args:
            root: folder of the jobs, of this host alone.
            work: does a job.
            limits: what is taken.
            now_s: the clock by which results are kept and jobs end.
        """
        self._folder, self._work, self._limits = JobFolder(root), work, limits
        self._now_s = now_s
        self._jobs: dict[str, _Job] = {}
        self._num_begun = 0
        self._last_begun: dict[Peer, int] = {}
        self._is_open = False
        self._changed = threading.Condition()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Work on what is there and comes; at the end running jobs stop between two steps."""
        self._load()
        self._is_open = True
        threads = [
            threading.Thread(target=self._serve, name=f"job-{place}", daemon=True)
            for place in range(self._limits.num_running)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            with self._changed:
                self._is_open = False
                self._changed.notify_all()
            for thread in threads:
                thread.join()

    def submit(self, owner: Peer, request: bytes) -> str:
        """Store a job and return its id.

        Raises:
            EchoFedError: SERVICE_BUSY where as many wait as are taken, of all or of this caller;
                DISK_FULL; CENTRE_UNREACHABLE where the host stops.
        """
        with self._changed:
            self._expect_open()
            waiting = [job.record.owner for job in self._jobs.values() if not job.status.is_ended]
            full = len(waiting) >= self._limits.num_waiting
            if full or waiting.count(owner) >= self._limits.num_per_owner:
                whose = "in all" if full else "of one caller"
                raise EchoFedError(
                    Code.SERVICE_BUSY,
                    f"as many jobs wait as are taken {whose}",
                    "submit it again when another has ended",
                )
            number = 1 + max((job.record.number for job in self._jobs.values()), default=0)
            record = self._folder.add(owner, number, request)
            self._jobs[record.id] = _Job(record, JobStatus("queued"))
            self._changed.notify_all()
        return record.id

    def watch(
        self, owner: Peer, id: str, *, expect_wanted: Callable[[], None]
    ) -> Iterator[JobStatus]:
        """How a job stands, now and whenever that changes, until it has ended.

        Args:
            owner: who asks.
            id: of the job.
            expect_wanted: raises where nobody listens any more.

        Raises:
            EchoFedError: JOB_UNKNOWN; CENTRE_UNREACHABLE where the host stops.
        """
        shown: JobStatus | None = None
        while shown is None or not shown.is_ended:
            expect_wanted()
            with self._changed:
                if self._find(owner, id).status == shown:
                    self._expect_open()
                    self._changed.wait(_LOOK_EVERY_S)
                status = self._find(owner, id).status
            if status != shown:
                shown = status
                yield status

    def result(self, owner: Peer, id: str) -> Iterator[bytes]:
        """The pieces of what a job gave.

        Raises:
            EchoFedError: JOB_UNKNOWN, RESULT_MISSING for a job that is not done, or what it failed
                by.
        """
        with self._changed:
            job = self._find(owner, id)
        why = job.status.failure
        if why is not None:
            raise EchoFedError(why.code, why.message, why.hint)
        if job.status.state != "done":
            raise EchoFedError(
                Code.RESULT_MISSING,
                f"the job is {job.status.state}",
                "watch it until it is done; submit it again if it was cancelled",
            )
        return self._folder.result(job.record)

    def cancel(self, owner: Peer, id: str) -> JobStatus:
        """Stop a job between two steps; one that has ended stays as it is.

        Raises:
            EchoFedError: JOB_UNKNOWN.
        """
        with self._changed:
            job = self._find(owner, id)
            if not job.status.is_ended:
                self._end(job, JobStatus("cancelled", job.status.done, job.status.total))
            return job.status

    def _load(self) -> None:
        self._folder.clear_remains()
        self._jobs = {}
        for record in self._folder.records():
            status, ended_s = self._folder.ended(record) or (JobStatus("queued"), 0.0)
            self._jobs[record.id] = _Job(record, status, ended_s)

    def _expect_open(self) -> None:
        if not self._is_open:
            raise EchoFedError(
                Code.CENTRE_UNREACHABLE, "the service stops", "ask again when it runs again"
            )

    def _find(self, owner: Peer, id: str) -> _Job:
        self._remove_old()
        job = self._jobs.get(id)
        if job is None or job.record.owner != owner:
            raise EchoFedError(
                Code.JOB_UNKNOWN,
                "there is no such job of yours",
                "check the id; results are kept for a while only",
            )
        return job

    def _remove_old(self) -> None:
        before_s = self._now_s() - self._limits.keep_s
        for id, job in list(self._jobs.items()):
            if job.status.is_ended and job.ended_s < before_s:
                del self._jobs[id]
                self._folder.remove(job.record)

    def _serve(self) -> None:
        while True:
            with self._changed:
                while self._is_open and (job := self._next()) is None:
                    self._changed.wait(_LOOK_EVERY_S)
                    self._remove_old()
                if not self._is_open:
                    return
                assert job is not None
                self._begin(job)
            self._run(job)

    def _next(self) -> _Job | None:
        """The oldest job of a caller: fewest jobs running, then the longest without a turn."""
        states = [(job.record.owner, job.status.state) for job in self._jobs.values()]
        running = Counter(owner for owner, state in states if state == "running")

        def turn(job: _Job) -> tuple[int, int, int]:
            owner = job.record.owner
            return running[owner], self._last_begun.get(owner, 0), job.record.number

        queued = [job for job in self._jobs.values() if job.status.state == "queued"]
        return min(queued, key=turn, default=None)

    def _begin(self, job: _Job) -> None:
        self._num_begun += 1
        self._last_begun[job.record.owner] = self._num_begun
        job.status = JobStatus("running")
        self._changed.notify_all()

    def _run(self, job: _Job) -> None:
        try:
            if self._folder.note_start(job.record) > self._limits.num_starts:
                raise EchoFedError(
                    Code.RUN_FAILED,
                    f"the job was begun {self._limits.num_starts} times and never ended",
                    "ask for less at once",
                )
            sha256 = self._folder.write_result(job.record, self._pieces(job))
            ended = JobStatus("done", job.status.done, job.status.total)
        except Exception as error:  # noqa: BLE001  the edge of a job; nobody else is told of it
            ended, sha256 = _failed(job.status, error), ""
        with self._changed:
            is_stopped = not self._is_open  # it begins again with the host
            is_wanted = job.status.state == "running"
            if is_stopped or not is_wanted or ended.state == "failed":
                self._folder.drop_result(job.record)
            if is_stopped:
                self._folder.forget_starts(job.record)
            elif is_wanted:
                self._end(job, ended, sha256=sha256)

    def _pieces(self, job: _Job) -> Iterator[bytes]:
        """What the work gives, for as long as the job is wanted."""
        stop_s = self._now_s() + self._limits.longest_s
        with closing(self._work(self._folder.request(job.record), job.record.owner)) as steps:
            for step in steps:
                with self._changed:
                    if job.status.state != "running" or not self._is_open:
                        return
                    job.status = JobStatus("running", step.done, step.total)
                    self._changed.notify_all()
                if self._now_s() > stop_s:
                    raise EchoFedError(
                        Code.DEADLINE_EXCEEDED,
                        f"the job was not done within {self._limits.longest_s:g} s",
                        "ask for less at once",
                    )
                yield step.piece

    def _end(self, job: _Job, status: JobStatus, *, sha256: str = "") -> None:
        job.ended_s = self._now_s()
        try:
            self._folder.end(job.record, status, sha256=sha256, now_s=job.ended_s)
        except (EchoFedError, OSError) as error:  # such as a full disk; it will begin again
            status = _failed(status, error)
        job.status = status
        self._changed.notify_all()


def _failed(status: JobStatus, error: Exception) -> JobStatus:
    return JobStatus("failed", status.done, status.total, told_of(error))
