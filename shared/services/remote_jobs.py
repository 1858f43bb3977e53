"""The caller's end of jobs, whatever service keeps them."""

import threading
from collections.abc import Callable, Iterator

from shared.errors import Code, EchoFedError
from shared.pb import jobs_pb2 as pb
from shared.rpc.job_folder import JobStatus
from shared.services.statuses import status_from

_BETWEEN_TRIES_S = 1.0


def watch(ask: Callable[[], Iterator[pb.JobStatus]], *, num_retries: int) -> Iterator[JobStatus]:
    """How a job stands, whenever that changes, until it has ended.

    Args:
        ask: begins a call; a new one follows where the job has not ended by its deadline.
        num_retries: how often in a row the host may be away; the channel waits between tries.

    Raises:
        EchoFedError: JOB_UNKNOWN, or CENTRE_UNREACHABLE.
    """
    shown: JobStatus | None = None
    left = num_retries
    while shown is None or not shown.is_ended:
        try:
            for message in ask():
                left = num_retries
                status = status_from(message)
                if status != shown:
                    shown = status
                    yield status
        except EchoFedError as error:
            if error.code is Code.CENTRE_UNREACHABLE and left > 0:
                left -= 1
                wait_for_host()
            elif error.code is not Code.DEADLINE_EXCEEDED:
                raise


def wait_for_host() -> None:
    """Leave the host a while to come back."""
    threading.Event().wait(_BETWEEN_TRIES_S)
