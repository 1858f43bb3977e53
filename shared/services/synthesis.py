"""Images drawn from label maps, as jobs."""

from collections.abc import Generator, Iterator

import grpc

from shared.pb import synthesis_pb2 as pb
from shared.pb import synthesis_pb2_grpc as stubs
from shared.rpc.deadline import Deadline, expect_wanted, while_wanted
from shared.rpc.jobs import Jobs, Step
from shared.rpc.peer import Peer, Role, peer_of
from shared.rpc.server import Service
from shared.services.drawings import from_place, messages_of_drawing
from shared.services.host import Host, SynthesizerStore
from shared.services.orders import order_from, pack_order, unpack_order
from shared.services.statuses import status_to
from shared.synthesis.answer import draw_order, expect_drawable
from shared.synthesis.order import Drawing

_NAME = "SynthesisService"
_CALLERS: frozenset[Role] = frozenset({"site", "operator"})


class SynthesisServicer(stubs.SynthesisServiceServicer):
    """Draws with its host's synthesizers, which are looked up at every order."""

    def __init__(self, store: SynthesizerStore, jobs: Jobs) -> None:
        """Keep synthesizers and jobs."""
        self._store = store
        self._jobs = jobs

    def SubmitSynthesis(
        self, request: Iterator[pb.SubmitSynthesisRequest], context: grpc.ServicerContext
    ) -> pb.SubmitSynthesisReply:
        order = order_from(message.part for message in request)
        drawer = self._store.find(order.alias, caller=peer_of(context), call=context)
        expect_drawable(drawer.card, order, call=context)  # rather now than in the job
        return pb.SubmitSynthesisReply(id=self._jobs.submit(peer_of(context), pack_order(order)))

    def WatchSynthesis(
        self, request: pb.WatchSynthesisRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchSynthesisReply]:
        shown = self._jobs.watch(
            peer_of(context), request.id, expect_wanted=lambda: expect_wanted(context)
        )
        return (pb.WatchSynthesisReply(status=status_to(status)) for status in shown)

    def FetchSynthesis(
        self, request: pb.FetchSynthesisRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.FetchSynthesisReply]:
        pieces = while_wanted(self._jobs.result(peer_of(context), request.id), context)
        parts = from_place(map(pb.DrawingPart.FromString, pieces), request.first)
        return (pb.FetchSynthesisReply(part=part) for part in parts)

    def CancelSynthesis(
        self, request: pb.CancelSynthesisRequest, context: grpc.ServicerContext
    ) -> pb.CancelSynthesisReply:
        status = self._jobs.cancel(peer_of(context), request.id)
        return pb.CancelSynthesisReply(status=status_to(status))


def build(host: Host) -> Service:
    """The service; an auditor reads reports and draws no pictures."""

    def work(request: bytes, owner: Peer) -> Generator[Step, None, None]:
        order = unpack_order(request)
        call = Deadline(host.job_limits.longest_s)
        drawer = host.synthesizers.find(order.alias, caller=owner, call=call)
        done = 0
        for part in draw_order(drawer, order):
            done += isinstance(part, Drawing)
            for message in messages_of_drawing(part):
                yield Step(message.SerializeToString(), done, order.num_images)

    jobs = Jobs(host.jobs_folder / "synthesis", work, limits=host.job_limits)
    descriptor = pb.DESCRIPTOR.services_by_name[_NAME]
    return Service(
        descriptor,
        SynthesisServicer(host.synthesizers, jobs),
        stubs.add_SynthesisServiceServicer_to_server,
        roles=dict.fromkeys(descriptor.methods_by_name, _CALLERS),
        running=jobs.running,
    )
