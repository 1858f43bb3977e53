"""The files of jobs: what was asked, by whom and what came of it, whole whenever the host dies."""

import hashlib
import logging
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from shared.errors import Code, EchoFedError
from shared.files import append_bytes, read_json, write_bytes, write_json
from shared.rpc.peer import ROLES, Peer

log = logging.getLogger(__name__)
State = Literal["queued", "running", "done", "failed", "cancelled"]
ENDS: tuple[State, ...] = ("done", "failed", "cancelled")
_RECORD, _REQUEST, _STARTS, _RESULT, _END = "job.json", "request", "starts", "result", "end.json"
_LENGTH_BYTES = 8


@dataclass(frozen=True, slots=True)
class JobStatus:
    """How a job stands.

    Args:
        done: steps that are done, of ``total``; both 0 before the first.
        failure: why it failed.
    """

    state: State
    done: int = 0
    total: int = 0
    failure: EchoFedError | None = None

    @property
    def is_ended(self) -> bool:
        return self.state in ENDS


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as it was submitted; ``number`` counts arrivals."""

    id: str
    owner: Peer
    number: int


class JobFolder:
    """A folder of jobs, each in one of its own; a name that begins with a dot is no job."""

    def __init__(self, root: Path) -> None:
        """Keep the folder; it is made when the first job comes."""
        self._root = root

    def add(self, owner: Peer, number: int, request: bytes) -> JobRecord:
        """Store a new job, whole or not at all.

        Raises:
            EchoFedError: DISK_FULL.
        """
        record = JobRecord(secrets.token_hex(16), owner, number)
        unfinished = self._root / f".{record.id}"
        try:
            write_bytes(unfinished / _REQUEST, request)
            document = {"owner": owner.name, "role": owner.role, "number": number}
            write_json(unfinished / _RECORD, document)
            unfinished.rename(self._root / record.id)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        return record

    def clear_remains(self) -> None:
        """Remove what a kill left half stored or half removed; nobody else may work here."""
        for path in self._root.glob(".*"):
            shutil.rmtree(path)

    def records(self) -> list[JobRecord]:
        """All jobs in the order of arrival; one that a fault of the disk damaged is left out."""
        found = []
        for path in self._root.glob("[!.]*"):
            try:
                found.append(_record_from(path))
            except (EchoFedError, KeyError, StopIteration):
                log.error("job %s is damaged and left out", path.name)
        return sorted(found, key=lambda record: record.number)

    def request(self, record: JobRecord) -> bytes:
        """What was asked."""
        return (self._root / record.id / _REQUEST).read_bytes()

    def note_start(self, record: JobRecord) -> int:
        """Count one more start of a job and return how many there were."""
        path = self._root / record.id / _STARTS
        append_bytes(path, b".")
        return path.stat().st_size

    def forget_starts(self, record: JobRecord) -> None:
        """Count none of the starts of a job that the host ended in good order."""
        (self._root / record.id / _STARTS).unlink(missing_ok=True)

    def drop_result(self, record: JobRecord) -> None:
        """Remove what a job wrote that did not come to its end."""
        (self._root / record.id / _RESULT).unlink(missing_ok=True)

    def write_result(self, record: JobRecord, pieces: Iterable[bytes]) -> str:
        """Write pieces as they come; they count once `end` names the hash that is returned.

        Raises:
            EchoFedError: DISK_FULL.
        """
        path, digest = self._root / record.id / _RESULT, hashlib.sha256()
        self.drop_result(record)  # of a start that was killed
        append_bytes(path, b"")
        for piece in pieces:
            framed = len(piece).to_bytes(_LENGTH_BYTES, "little") + piece
            digest.update(framed)
            append_bytes(path, framed)
        with path.open("rb") as file:
            os.fsync(file.fileno())
        return digest.hexdigest()

    def result(self, record: JobRecord) -> Iterator[bytes]:
        """The pieces of a job that is done.

        Raises:
            EchoFedError: CHECKPOINT_CORRUPT, at the end at the latest.
        """
        folder, digest = self._root / record.id, hashlib.sha256()
        expected = read_json(folder / _END)["sha256"]
        with (folder / _RESULT).open("rb") as file:
            while head := file.read(_LENGTH_BYTES):
                length = int.from_bytes(head, "little")
                if length > os.fstat(file.fileno()).st_size:
                    raise _corrupt()
                piece = file.read(length)
                digest.update(head + piece)
                yield piece
        if digest.hexdigest() != expected:
            raise _corrupt()

    def end(self, record: JobRecord, status: JobStatus, *, sha256: str, now_s: float) -> None:
        """Store how a job ended; what was asked is needed no more."""
        folder, why = self._root / record.id, status.failure
        document = {
            "state": status.state,
            "done": status.done,
            "total": status.total,
            "failure": None if why is None else [int(why.code), why.message, why.hint],
            "sha256": sha256,
            "ended_s": now_s,
        }
        write_json(folder / _END, document)
        (folder / _REQUEST).unlink(missing_ok=True)

    def ended(self, record: JobRecord) -> tuple[JobStatus, float] | None:
        """How a job ended and when, None for one that has not; a damaged end is a failure."""
        path = self._root / record.id / _END
        if not path.is_file():
            return None
        try:
            return _end_from(read_json(path))
        except (EchoFedError, KeyError, StopIteration, TypeError, ValueError):
            log.error("the end of job %s is damaged", record.id)
            return JobStatus("failed", failure=_corrupt()), path.stat().st_mtime

    def remove(self, record: JobRecord) -> None:
        """Remove a job; a result that is being read can be read to its end."""
        going = self._root / f".{record.id}"
        (self._root / record.id).rename(going)
        shutil.rmtree(going)


def _end_from(document: dict[str, Any]) -> tuple[JobStatus, float]:
    why = document["failure"]
    failure = None if why is None else EchoFedError(Code(why[0]), why[1], why[2])
    state = next(one for one in ENDS if one == document["state"])
    status = JobStatus(state, document["done"], document["total"], failure)
    return status, float(document["ended_s"])


def _record_from(path: Path) -> JobRecord:
    document = read_json(path / _RECORD)
    role = next(role for role in ROLES if role == document["role"])
    return JobRecord(path.name, Peer(str(document["owner"]), role), int(document["number"]))


def _corrupt() -> EchoFedError:
    return EchoFedError(
        Code.CHECKPOINT_CORRUPT, "the stored result of the job is damaged", "submit it again"
    )
