"""Masks, contours and measurements of clips: at once, live, or as a job."""

from collections.abc import Generator, Iterator

import grpc

from shared.pb import segmentation_pb2 as pb
from shared.pb import segmentation_pb2_grpc as stubs
from shared.rpc.deadline import Deadline, expect_wanted, while_wanted
from shared.rpc.jobs import Jobs, Step
from shared.rpc.peer import Peer, Role, peer_of
from shared.rpc.server import Service
from shared.segmentation.answer import (
    FrameAnswer,
    answer_clip,
    answer_frames,
    choose_segmenters,
    expect_picture,
)
from shared.services.answers import messages_of
from shared.services.clips import clip_from, frames_from, pack_clip, unpack_clip
from shared.services.host import Host, SegmenterStore
from shared.services.statuses import status_to

_NAME = "SegmentationService"
_CALLERS: frozenset[Role] = frozenset({"site", "operator"})


class SegmentationServicer(stubs.SegmentationServiceServicer):
    """Answers with its host's segmenters, which are looked up at every call."""

    def __init__(self, store: SegmenterStore, jobs: Jobs) -> None:
        """Keep segmenters and jobs."""
        self._store = store
        self._jobs = jobs

    def Segment(
        self, request: Iterator[pb.SegmentRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.SegmentReply]:
        clip, question = clip_from(message.part for message in request)
        segmenters = self._store.find(question.alias, caller=peer_of(context), call=context)
        for part in while_wanted(answer_clip(segmenters, clip, question), context):
            yield from (pb.SegmentReply(part=message) for message in messages_of(part))

    def Follow(
        self, request: Iterator[pb.FollowRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.FollowReply]:
        question, clips = frames_from(request)
        segmenters = self._store.find(question.alias, caller=peer_of(context), call=context)
        for part in while_wanted(answer_frames(segmenters, clips, question), context):
            yield from (pb.FollowReply(part=message) for message in messages_of(part))

    def Submit(
        self, request: Iterator[pb.SubmitRequest], context: grpc.ServicerContext
    ) -> pb.SubmitReply:
        clip, question = clip_from(message.part for message in request)
        segmenters = self._store.find(question.alias, caller=peer_of(context), call=context)
        choose_segmenters(segmenters, question, clip.mm_per_pixel)  # rather now than in the job
        expect_picture(clip)
        return pb.SubmitReply(id=self._jobs.submit(peer_of(context), pack_clip(clip, question)))

    def Watch(
        self, request: pb.WatchRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchReply]:
        shown = self._jobs.watch(
            peer_of(context), request.id, expect_wanted=lambda: expect_wanted(context)
        )
        return (pb.WatchReply(status=status_to(status)) for status in shown)

    def Result(
        self, request: pb.ResultRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.ResultReply]:
        pieces = while_wanted(self._jobs.result(peer_of(context), request.id), context)
        return (pb.ResultReply(part=pb.AnswerPart.FromString(piece)) for piece in pieces)

    def Cancel(self, request: pb.CancelRequest, context: grpc.ServicerContext) -> pb.CancelReply:
        return pb.CancelReply(status=status_to(self._jobs.cancel(peer_of(context), request.id)))


def build(host: Host) -> Service:
    """The service; an auditor reads reports and sends no pictures."""

    def work(request: bytes, owner: Peer) -> Generator[Step, None, None]:
        clip, question = unpack_clip(request)
        call = Deadline(host.job_limits.longest_s)
        segmenters = host.segmenters.find(question.alias, caller=owner, call=call)
        done, total = 0, len(clip.pixels_THW)
        for part in answer_clip(segmenters, clip, question):
            done += isinstance(part, FrameAnswer)
            for message in messages_of(part):
                yield Step(message.SerializeToString(), done, total)

    jobs = Jobs(host.jobs_folder / "segmentation", work, limits=host.job_limits)
    descriptor = pb.DESCRIPTOR.services_by_name[_NAME]
    return Service(
        descriptor,
        SegmentationServicer(host.segmenters, jobs),
        stubs.add_SegmentationServiceServicer_to_server,
        roles=dict.fromkeys(descriptor.methods_by_name, _CALLERS),
        endless=frozenset({"Follow"}),
        running=jobs.running,
    )
