"""The caller's end of the segmentation service: the same parts as an answer in this process."""

import threading
from collections.abc import Iterable, Iterator

from shared.echo.frame import Clip, Frame
from shared.pb import jobs_pb2
from shared.pb import segmentation_pb2 as pb
from shared.pb import segmentation_pb2_grpc as stubs
from shared.rpc.channel import Channel
from shared.rpc.job_folder import JobStatus
from shared.segmentation.answer import FrameAnswer, Part, Question
from shared.services.answers import parts_from
from shared.services.clips import first_frame_to, frame_to, parts_of
from shared.services.remote_jobs import watch
from shared.services.statuses import status_from

_AHEAD = 2  # live frames under way: one is answered while the next travels
_LOOK_EVERY_S = 0.1


def segment_remotely(
    channel: Channel, clip: Clip, question: Question, *, timeout_s: float | None = None
) -> Iterator[Part]:
    """The models, each frame, then the measurements; each as soon as the host has it.

    Args:
        channel: connection to the host.
        clip: its pixels, spacing and frame time leave this process; its key and patient do not.
        question: what is asked.
        timeout_s: for the whole answer; the channel's own where None.

    Raises:
        EchoFedError: what the host refuses by.
    """
    requests = (pb.SegmentRequest(part=part) for part in parts_of(clip, question))
    replies = stubs.SegmentationServiceStub(channel).Segment(requests, timeout=timeout_s)
    return parts_from(reply.part for reply in replies)


def follow_remotely(
    channel: Channel, frames: Iterable[Frame], question: Question, *, timeout_s: float | None = None
) -> Iterator[Part]:
    """The answer to each live frame.

    The source is asked for a frame only when the host is about to be free for it; one that gives
    its newest frame then never falls behind.

    Args:
        channel: connection to the host.
        frames: all of the first one's spacing; asked for in a thread of its own.
        question: what is asked.
        timeout_s: after which the call ends and a new one is due; the channel's own where None.

    Raises:
        EchoFedError: what the host refuses by.
    """
    room, is_over = threading.Semaphore(_AHEAD), threading.Event()
    requests = _paced(iter(frames), question, room, is_over)
    replies = stubs.SegmentationServiceStub(channel).Follow(requests, timeout=timeout_s)
    try:
        for part in parts_from(reply.part for reply in replies):
            if isinstance(part, FrameAnswer):
                room.release()
            yield part
    finally:
        is_over.set()


def submit_remotely(channel: Channel, clip: Clip, question: Question) -> str:
    """Leave a clip with the host as a job and return the job's id.

    Raises:
        EchoFedError: what the host refuses by, such as SERVICE_BUSY.
    """
    requests = (pb.SubmitRequest(part=part) for part in parts_of(clip, question))
    return str(stubs.SegmentationServiceStub(channel).Submit(requests).id)


def watch_job(
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
    stub, request = stubs.SegmentationServiceStub(channel), pb.WatchRequest(id=id)

    def ask() -> Iterator[jobs_pb2.JobStatus]:
        return (reply.status for reply in stub.Watch(request, timeout=timeout_s))

    return watch(ask, num_retries=num_retries)


def fetch_answer(channel: Channel, id: str) -> Iterator[Part]:
    """The answer of a job that is done, as ``segment_remotely`` gives it.

    Raises:
        EchoFedError: JOB_UNKNOWN, RESULT_MISSING, or what the job failed by.
    """
    replies = stubs.SegmentationServiceStub(channel).Result(pb.ResultRequest(id=id))
    return parts_from(reply.part for reply in replies)


def cancel_job(channel: Channel, id: str) -> JobStatus:
    """Stop a job, and say how it stands then.

    Raises:
        EchoFedError: JOB_UNKNOWN.
    """
    reply = stubs.SegmentationServiceStub(channel).Cancel(pb.CancelRequest(id=id))
    return status_from(reply.status)


def _paced(
    frames: Iterator[Frame],
    question: Question,
    room: threading.Semaphore,
    is_over: threading.Event,
) -> Iterator[pb.FollowRequest]:
    """The messages of live frames, each when there is room for it."""
    is_first = True
    while True:
        while not room.acquire(timeout=_LOOK_EVERY_S):
            if is_over.is_set():
                return
        frame = next(frames, None)
        if frame is None:
            return
        yield first_frame_to(frame, question) if is_first else frame_to(frame)
        is_first = False
