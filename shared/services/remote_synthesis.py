"""The caller's end of the synthesis service: the same parts as an answer in this process."""

from collections.abc import Callable, Iterator

from shared.errors import Code, EchoFedError
from shared.pb import jobs_pb2
from shared.pb import synthesis_pb2 as pb
from shared.pb import synthesis_pb2_grpc as stubs
from shared.rpc.channel import Channel
from shared.rpc.job_folder import JobStatus
from shared.services.drawings import drawings_from
from shared.services.orders import parts_of_order
from shared.services.remote_jobs import wait_for_host, watch
from shared.services.statuses import status_from
from shared.synthesis.order import Drawing, Order, Part

NUM_RETRIES = 60
"""How often in a row the host may be away, about a second each."""


def synthesize_remotely(
    channel: Channel,
    order: Order,
    *,
    progress: Callable[[JobStatus], object] | None = None,
    num_retries: int = NUM_RETRIES,
) -> Iterator[Part]:
    """The model, then each image, once the host has drawn them all.

    Args:
        channel: connection to the host; it may break where a job was taken.
        order: what is drawn, and how.
        progress: is told how the job stands whenever that changes.
        num_retries: how often in a row the host may be away.

    Raises:
        EchoFedError: what the host refuses by, or what the job fails by.
    """
    id = submit_synthesis(channel, order)
    for status in watch_synthesis(channel, id, num_retries=num_retries):
        if progress is not None:
            progress(status)
    yield from fetch_drawings(channel, id, num_retries=num_retries)


def submit_synthesis(channel: Channel, order: Order, *, timeout_s: float | None = None) -> str:
    """Leave an order with the host as a job and return the job's id.

    Raises:
        EchoFedError: what the host refuses by, such as SERVICE_BUSY.
    """
    requests = (pb.SubmitSynthesisRequest(part=part) for part in parts_of_order(order))
    stub = stubs.SynthesisServiceStub(channel)
    return str(stub.SubmitSynthesis(requests, timeout=timeout_s).id)


def watch_synthesis(
    channel: Channel, id: str, *, timeout_s: float | None = None, num_retries: int = 0
) -> Iterator[JobStatus]:
    """How a job stands, whenever that changes, until it has ended.

    Args:
        channel: connection to the host.
        id: of the job.
        timeout_s: of one call; a new one follows where the job has not ended by then.
        num_retries: how often in a row the host may be away; the channel waits between tries.

    Raises:
        EchoFedError: JOB_UNKNOWN, or CENTRE_UNREACHABLE.
    """
    stub, request = stubs.SynthesisServiceStub(channel), pb.WatchSynthesisRequest(id=id)

    def ask() -> Iterator[jobs_pb2.JobStatus]:
        return (reply.status for reply in stub.WatchSynthesis(request, timeout=timeout_s))

    return watch(ask, num_retries=num_retries)


def fetch_drawings(
    channel: Channel,
    id: str,
    *,
    first: int = 0,
    timeout_s: float | None = None,
    num_retries: int = 0,
) -> Iterator[Part]:
    """The model, then the images of a job that is done; a lost connection is taken up again.

    Args:
        channel: connection to the host.
        id: of the job.
        first: place of the first image that is wanted.
        timeout_s: of one call; a new one follows for the images that are missing by then.
        num_retries: how often in a row the host may be away.

    Raises:
        EchoFedError: JOB_UNKNOWN, RESULT_MISSING, what the job failed by, or CENTRE_UNREACHABLE.
    """
    stub, left, is_named = stubs.SynthesisServiceStub(channel), num_retries, False
    while True:
        request, begun = pb.FetchSynthesisRequest(id=id, first=first), first
        try:
            replies = stub.FetchSynthesis(request, timeout=timeout_s)
            for part in drawings_from(reply.part for reply in replies):
                if isinstance(part, Drawing):
                    first, left = part.place + 1, num_retries
                    yield part
                elif not is_named:
                    is_named = True
                    yield part
            return
        except EchoFedError as error:
            if error.code is Code.DEADLINE_EXCEEDED and first > begun:
                continue
            if error.code is not Code.CENTRE_UNREACHABLE or not left:
                raise
            left -= 1
            wait_for_host()


def cancel_synthesis(channel: Channel, id: str) -> JobStatus:
    """Stop a job, and say how it stands then.

    Raises:
        EchoFedError: JOB_UNKNOWN.
    """
    reply = stubs.SynthesisServiceStub(channel).CancelSynthesis(pb.CancelSynthesisRequest(id=id))
    return status_from(reply.status)
