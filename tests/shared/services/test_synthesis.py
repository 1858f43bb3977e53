"""The synthesis service draws as a drawer here, and keeps its jobs."""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from shared.echo.synthesizer import Sampler, SynthesizerCard
from shared.errors import Code, EchoFedError
from shared.pb import synthesis_pb2 as pb
from shared.rpc.channel import Channel, open_channel
from shared.rpc.deadline import Call
from shared.rpc.gate import Limits
from shared.rpc.job_folder import JobStatus
from shared.rpc.jobs import JobLimits
from shared.rpc.peer import Credentials, Peer
from shared.rpc.server import Service, running_server
from shared.services import SERVICES
from shared.services.drawings import messages_of_drawing
from shared.services.host import Host
from shared.services.orders import parts_of_order
from shared.services.remote_synthesis import (
    cancel_synthesis,
    fetch_drawings,
    submit_synthesis,
    synthesize_remotely,
    watch_synthesis,
)
from shared.synthesis.answer import Drawer, draw_order
from shared.synthesis.maps import phantom_maps
from shared.synthesis.order import Drawing, Labels, Order, Part, Variation
from shared.synthesis.semantic import Synthesizer, build_synthesizer
from shared.testing.contracts import ServiceContract
from shared.testing.drawers import DRAWER_CARD, ShowingDrawer
from shared.testing.hosting import BadRequest, ask, hosting
from shared.testing.synthesizers import untrained_synthesizer

Integers = NDArray[np.int64]
ROOMY = Limits(num_calls=6, num_per_caller=4, longest_s=100.0, drain_s=5.0)
MAPS = phantom_maps(
    3, 7, DRAWER_CARD.image_size, views=("A4C",), structures=DRAWER_CARD.structures
).labels_NSS
ORDER = Order("A4C", labels_NHW=MAPS, structures=DRAWER_CARD.structures, seed=5)
VARIED = Order("A4C", variation=Variation(20, 3), seed=5)


@dataclass
class OneAlias:
    """A drawer by its alias."""

    drawer: Drawer
    asked: list[str] = field(default_factory=list)

    def find(self, alias: str, *, caller: Peer, call: Call) -> Drawer:
        self.asked.append(f"{caller.name}.{caller.role}")
        if alias != "synthesis":
            raise EchoFedError(Code.MODEL_UNKNOWN, f"no model is called {alias!r}")
        return self.drawer


def service_of(folder: Path, drawer: Drawer, **limits: float) -> Service:
    host = Host(folder, synthesizers=OneAlias(drawer), job_limits=JobLimits(**limits))  # type: ignore[arg-type]
    return SERVICES["synthesis"](host)


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return service_of(tmp_path, ShowingDrawer())


@contextmanager
def calling(
    service: Service, passes: Mapping[str, Credentials], *, limits: Limits = ROOMY
) -> Iterator[Channel]:
    """A site's connection to a host of the service."""
    with (
        hosting(service, passes, limits=limits) as address,
        open_channel(address, passes["site"], deadline_s=20.0) as opened,
    ):
        yield opened


@pytest.fixture
def channel(service: Service, passes: Mapping[str, Credentials]) -> Iterator[Channel]:
    with calling(service, passes) as opened:
        yield opened


def as_bytes(parts: Sequence[Part]) -> list[bytes]:
    """Parts, so that they can be compared."""
    return [message.SerializeToString() for part in parts for message in messages_of_drawing(part)]


def refused(call: object) -> Code:
    with pytest.raises(EchoFedError) as error:
        list(call()) if callable(call) else None
    return error.value.code


METHODS = {
    "SubmitSynthesis": lambda _: pb.SubmitSynthesisRequest(part=next(parts_of_order(ORDER))),
    "WatchSynthesis": lambda id: pb.WatchSynthesisRequest(id=id),
    "FetchSynthesis": lambda id: pb.FetchSynthesisRequest(id=id),
    "CancelSynthesis": lambda id: pb.CancelSynthesisRequest(id=id),
}
"""A good request to each method."""


class TestSynthesisService(ServiceContract):
    @pytest.fixture
    def bad_requests(self) -> Sequence[BadRequest]:
        return [
            *order_requests(),
            ("WatchSynthesis", pb.WatchSynthesisRequest(id="0" * 32), Code.JOB_UNKNOWN),
            ("WatchSynthesis", pb.WatchSynthesisRequest(id="../../etc"), Code.JOB_UNKNOWN),
            ("FetchSynthesis", pb.FetchSynthesisRequest(first=2**63), Code.JOB_UNKNOWN),
            ("CancelSynthesis", pb.CancelSynthesisRequest(id="x"), Code.JOB_UNKNOWN),
        ]


def order_requests() -> Iterator[BadRequest]:
    """Orders of one message each."""
    (damaged,), (typed,), (flat,), (long,) = (list(parts_of_order(ORDER)) for _ in range(4))
    damaged.labels.data = bytes(len(damaged.labels.data))
    typed.dtype = "float32"
    del flat.shape[0]
    long.shape[0] = 2**40
    whole = (
        (replace(ORDER, view="PLAX"), Code.VIEW_UNKNOWN),
        (replace(ORDER, alias="severing"), Code.MODEL_UNKNOWN),
        (replace(ORDER, solver="magic"), Code.CONFIG_INVALID),
        (replace(ORDER, steps=2**31), Code.CONFIG_INVALID),
        (replace(ORDER, guidance=float("nan")), Code.CONFIG_INVALID),
        (replace(ORDER, labels_NHW=np.zeros_like(MAPS)), Code.SECTOR_EMPTY),
        (replace(ORDER, labels_NHW=np.ones_like(MAPS)), Code.MAP_IMPLAUSIBLE),
        (replace(ORDER, structures=("outside",)), Code.LABEL_UNMAPPED),
        (replace(ORDER, labels_NHW=MAPS[:, :16]), Code.SHAPE_MISMATCH),
        (replace(VARIED, variation=Variation(2**60)), Code.REQUEST_TOO_LARGE),
        (replace(VARIED, variation=None), Code.CONFIG_INVALID),
    )
    for part, code in (
        (pb.OrderPart(), Code.WIRE_INVALID),
        (damaged, Code.WIRE_INVALID),
        (typed, Code.WIRE_INVALID),
        (flat, Code.SHAPE_MISMATCH),
        (long, Code.REQUEST_TOO_LARGE),
        *((next(parts_of_order(order)), code) for order, code in whole),
    ):
        yield "SubmitSynthesis", pb.SubmitSynthesisRequest(part=part), code


@pytest.mark.parametrize("order", [ORDER, VARIED, replace(ORDER, variation=Variation(9))])
def test_the_drawings_are_those_of_the_drawer_here(channel: Channel, order: Order) -> None:
    told: list[JobStatus] = []
    there = list(synthesize_remotely(channel, order, progress=told.append))
    assert as_bytes(there) == as_bytes(list(draw_order(ShowingDrawer(), order)))
    assert told[-1] == JobStatus("done", order.num_images, order.num_images)


def test_of_an_image_that_is_not_released_no_pixel_leaves_the_host(
    tmp_path: Path, passes: Mapping[str, Credentials]
) -> None:
    service = service_of(tmp_path, ShowingDrawer(releases=lambda _: False))
    with calling(service, passes) as channel:
        _, *drawings = synthesize_remotely(channel, ORDER)
    assert [isinstance(one, Drawing) and one.is_released for one in drawings] == [False] * 3


def test_drawings_can_be_had_from_a_place_on(channel: Channel) -> None:
    whole = list(synthesize_remotely(channel, VARIED))
    id = submit_synthesis(channel, VARIED)
    assert list(watch_synthesis(channel, id))[-1].state == "done"
    later = list(fetch_drawings(channel, id, first=12))
    assert as_bytes(later) == as_bytes([whole[0], *whole[13:]])
    assert cancel_synthesis(channel, id).state == "done"


@dataclass
class Gated:
    """Lets a drawer draw so many pieces, and the next when it is opened."""

    pieces: int = 1
    begun: int = 0
    opened: threading.Event = field(default_factory=threading.Event)
    reached: threading.Event = field(default_factory=threading.Event)

    def __call__(self) -> None:
        self.begun += 1
        if self.begun > self.pieces:
            self.reached.set()
            self.opened.wait(10.0)


def test_a_job_outlives_caller_and_host_and_gives_the_same_images(
    tmp_path: Path, passes: Mapping[str, Credentials]
) -> None:
    gate = Gated()
    first = service_of(tmp_path, ShowingDrawer(before=gate))
    with hosting(first, passes, limits=ROOMY) as address:
        with open_channel(address, passes["site"]) as channel:
            id = submit_synthesis(channel, VARIED)
        assert gate.reached.wait(5.0)
        threading.Timer(0.3, gate.opened.set).start()  # when the host has begun to stop
    second = service_of(tmp_path, ShowingDrawer())
    with hosting(second, passes, limits=ROOMY) as address:
        with open_channel(address, passes["site"]) as channel:
            *_, last = watch_synthesis(channel, id)
            parts = list(fetch_drawings(channel, id))
        with open_channel(address, passes["operator"]) as channel:
            assert refused(lambda: fetch_drawings(channel, id)) is Code.JOB_UNKNOWN
    assert last == JobStatus("done", 20, 20)
    assert as_bytes(parts) == as_bytes(list(draw_order(ShowingDrawer(), VARIED)))


def test_a_cancelled_job_stops_between_two_pieces_and_leaves_nothing(
    tmp_path: Path, passes: Mapping[str, Credentials]
) -> None:
    gate = Gated()
    service = service_of(tmp_path, ShowingDrawer(before=gate))
    with calling(service, passes) as channel:
        id = submit_synthesis(channel, replace(VARIED, variation=Variation(200)))
        assert gate.reached.wait(5.0)
        *_, early = cancelled(channel, id)
        assert refused(lambda: fetch_drawings(channel, id)) is Code.RESULT_MISSING
        gate.opened.set()
        give_up = time.monotonic() + 5.0
        while any(tmp_path.rglob("result")) and time.monotonic() < give_up:
            time.sleep(0.02)
    assert early == JobStatus("cancelled", 8, 200)
    assert gate.begun == 2
    assert not any(tmp_path.rglob("result"))


def cancelled(channel: Channel, id: str) -> list[JobStatus]:
    """Cancel a job and watch it to its end, by calls that end sooner than it."""
    threading.Timer(0.7, lambda: cancel_synthesis(channel, id)).start()
    return list(watch_synthesis(channel, id, timeout_s=0.3))


def test_two_jobs_of_one_drawer_are_done_one_after_the_other(
    tmp_path: Path, passes: Mapping[str, Credentials]
) -> None:
    gate = Gated(pieces=0)
    service = service_of(tmp_path, ShowingDrawer(before=gate), num_per_owner=2)
    with calling(service, passes) as channel:
        first, second = (submit_synthesis(channel, one) for one in (VARIED, ORDER))
        busy = refused(lambda: submit_synthesis(channel, ORDER))
        assert gate.reached.wait(5.0)
        waiting = next(iter(watch_synthesis(channel, second)))
        gate.opened.set()
        ends = [list(watch_synthesis(channel, id))[-1] for id in (first, second)]
        images = [len(list(fetch_drawings(channel, id))) - 1 for id in (first, second)]
    assert (busy, waiting.state) == (Code.SERVICE_BUSY, "queued")
    assert [one.state for one in ends] == ["done", "done"]
    assert images == [20, 3]


@dataclass
class NetworkDrawer:
    """A synthesizer in this process."""

    synthesizer: Synthesizer

    @property
    def card(self) -> SynthesizerCard:
        return self.synthesizer.card

    def draw(
        self, labels_NSS: Labels, view_N: Integers, seeds_N: Integers, sampler: Sampler
    ) -> tuple[Labels, NDArray[np.float32], NDArray[np.bool_]]:
        images_NSS = self.synthesizer.images(
            labels_NSS, view_N=view_N, seeds_N=seeds_N, sampler=sampler
        )
        similarities_N = self.synthesizer.gate.similarities(images_NSS)
        return images_NSS, similarities_N, self.synthesizer.gate.released(similarities_N)


def drawer_of(threshold: float) -> NetworkDrawer:
    return NetworkDrawer(build_synthesizer(*untrained_synthesizer(0, release_threshold=threshold)))


@pytest.mark.parametrize("sent", [True, False])
def test_networks_draw_for_a_caller_as_they_draw_here(
    tmp_path: Path, passes: Mapping[str, Credentials], sent: bool
) -> None:
    drawer = drawer_of(1.0)
    card = drawer.card
    maps = phantom_maps(10, 3, 64, views=("A4C",), structures=card.structures).labels_NSS
    order = replace(VARIED, variation=Variation(10), solver="dpmpp_2m", steps=2)
    if sent:
        order = replace(order, labels_NHW=maps, structures=card.structures, variation=None)
    with calling(service_of(tmp_path, drawer), passes) as channel:
        there = list(synthesize_remotely(channel, order))
    assert as_bytes(there) == as_bytes(list(draw_order(drawer, order)))
    for one in there[1:]:
        assert isinstance(one, Drawing)
        assert one.pixels_SS is not None
        assert one.pixels_SS.shape == (card.image_size, card.image_size)
        assert not one.pixels_SS[one.map.labels_HW == 0].any()
        assert one.pixels_SS.std() > 0


def test_what_is_too_like_the_training_never_leaves_the_host(
    tmp_path: Path, passes: Mapping[str, Credentials]
) -> None:
    with calling(service_of(tmp_path, drawer_of(-2.0)), passes) as channel:
        _, *drawings = synthesize_remotely(channel, replace(VARIED, variation=Variation(2)))
    for one in drawings:
        assert isinstance(one, Drawing)
        assert one.pixels_SS is None
        assert one.similarity > -2.0


def test_two_jobs_at_once_draw_what_each_draws_alone(
    tmp_path: Path, passes: Mapping[str, Credentials]
) -> None:
    drawer = drawer_of(1.0)
    orders = [replace(VARIED, variation=Variation(9, seed), seed=seed) for seed in (1, 2)]
    with calling(service_of(tmp_path, drawer, num_running=2), passes) as channel:
        ids = [submit_synthesis(channel, order) for order in orders]
        ends = [list(watch_synthesis(channel, id))[-1].state for id in ids]
        there = [as_bytes(list(fetch_drawings(channel, id))) for id in ids]
    assert ends == ["done", "done"]
    assert there == [as_bytes(list(draw_order(drawer, order))) for order in orders]


@dataclass
class Failing(ShowingDrawer):
    """Fails at its second piece."""

    pieces: int = 0

    def draw(self, *arrays: object) -> object:  # type: ignore[override]
        self.pieces += 1
        if self.pieces == 2:
            raise EchoFedError(Code.WORKER_LOST, "the model's process ended", "try again")
        return super().draw(*arrays)  # type: ignore[arg-type]


def test_a_drawer_that_fails_leaves_its_code_and_nothing_half_written(
    tmp_path: Path, passes: Mapping[str, Credentials]
) -> None:
    service = service_of(tmp_path, Failing())
    with calling(service, passes) as channel:
        id = submit_synthesis(channel, VARIED)
        *_, last = watch_synthesis(channel, id)
        assert refused(lambda: fetch_drawings(channel, id)) is Code.WORKER_LOST
    assert last.state == "failed"
    assert not any(tmp_path.rglob("result"))


def test_a_host_without_synthesizers_says_so(
    tmp_path: Path, passes: Mapping[str, Credentials]
) -> None:
    with calling(SERVICES["synthesis"](Host(tmp_path)), passes) as channel:
        assert refused(lambda: submit_synthesis(channel, ORDER)) is Code.MODEL_UNKNOWN


def test_a_fetch_outlives_its_calls_deadline(channel: Channel) -> None:
    id = submit_synthesis(channel, VARIED)
    assert list(watch_synthesis(channel, id))[-1].state == "done"
    parts = []
    for part in fetch_drawings(channel, id, timeout_s=0.5):
        time.sleep(0.1)
        parts.append(part)
    assert as_bytes(parts) == as_bytes(list(draw_order(ShowingDrawer(), VARIED)))


def test_a_fetch_outlives_its_host(tmp_path: Path, passes: Mapping[str, Credentials]) -> None:
    """Images of 1 MiB, so that most of them are still with the host when it stops."""
    names = ("outside", "background", "heart")
    drawer = ShowingDrawer(replace(DRAWER_CARD, image_size=1024, structures=names))
    maps = np.minimum(MAPS[:1], 2).repeat(10, axis=0)
    order = replace(ORDER, labels_NHW=maps, structures=names)
    hasty = replace(ROOMY, drain_s=0.1)
    with ExitStack() as stack:
        first = stack.enter_context(ExitStack())
        port = first.enter_context(running(tmp_path, drawer, passes, hasty, port=0))
        channel = stack.enter_context(open_channel(f"127.0.0.1:{port}", passes["site"]))
        id = submit_synthesis(channel, order)
        assert list(watch_synthesis(channel, id))[-1].state == "done"
        parts = fetch_drawings(channel, id, num_retries=20)
        early = [next(parts) for _ in range(3)]
        first.close()
        stack.enter_context(running(tmp_path, drawer, passes, hasty, port=port))
        places = [part.place for part in (*early, *parts) if isinstance(part, Drawing)]
    assert places == list(range(10))


@contextmanager
def running(
    folder: Path, drawer: Drawer, passes: Mapping[str, Credentials], limits: Limits, *, port: int
) -> Iterator[int]:
    """A host at a port of its own."""
    with running_server(
        [service_of(folder, drawer)],
        passes["server"],
        address=f"127.0.0.1:{port}",
        limits=limits,
        revoked_keys=lambda: (),
    ) as found:
        yield found


def spoilt(message: bytes, generator: random.Random) -> bytes:
    """The message with some bytes changed, dropped or doubled."""
    data = bytearray(message)
    for _ in range(generator.choice((1, 1, 2, 5))):
        place = generator.randrange(len(data)) if data else 0
        match generator.randrange(3):
            case 0:
                data[place : place + 1] = generator.randbytes(1)
            case 1:
                del data[place : place + generator.choice((1, 3))]
            case _:
                data[place:place] = data[place : place + 5]
    return bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize("method", list(METHODS))
def test_damaged_requests_bring_nothing_down(
    tmp_path: Path, passes: Mapping[str, Credentials], seed: int, method: str
) -> None:
    service = service_of(tmp_path, ShowingDrawer(), num_waiting=10**6, num_per_owner=10**6)
    generator, process, held = random.Random(seed), psutil.Process(), 0
    codes: Counter[str] = Counter()
    with calling(service, passes) as channel:
        id = submit_synthesis(channel, ORDER)
        good = METHODS[method](id).SerializeToString()
        for place in range(2000):
            try:
                ask(channel, service, method, spoilt(good, generator))
                codes["answered"] += 1
            except EchoFedError as error:
                codes[error.code.name] += 1
            held = process.memory_info().rss if place == 500 else held
        assert process.memory_info().rss < 1.05 * held
    assert not codes.keys() & {"INTERNAL", "CENTRE_UNREACHABLE", "DEADLINE_EXCEEDED"}, codes
    assert len(codes) > 1
