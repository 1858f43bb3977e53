"""The segmentation service answers as the models do in this process, and keeps its jobs."""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from shared.echo.frame import Clip, Frame
from shared.errors import Code, EchoFedError
from shared.models.backbone import pack_tensors
from shared.pb import segmentation_pb2 as pb
from shared.phantom.anatomy import draw_heart
from shared.phantom.scanner import SCANNERS, render_clip
from shared.rpc.channel import Channel, open_channel
from shared.rpc.codec import tensor_to
from shared.rpc.deadline import Call
from shared.rpc.gate import Limits
from shared.rpc.job_folder import JobStatus
from shared.rpc.jobs import JobLimits
from shared.rpc.peer import Credentials, Peer
from shared.rpc.server import Service
from shared.segmentation.answer import (
    FrameAnswer,
    Measured,
    Part,
    Question,
    Segmenters,
    answer_clip,
)
from shared.segmentation.segmenter import Floats, Segmenter, build_forward, build_network
from shared.services import SERVICES
from shared.services.answers import messages_of
from shared.services.clips import first_frame_to, parts_of
from shared.services.host import Host
from shared.services.remote_segmentation import (
    cancel_job,
    fetch_answer,
    follow_remotely,
    segment_remotely,
    submit_remotely,
    watch_job,
)
from shared.testing.beating import (
    MASK_CARD,
    beating_clip,
    reading_masks,
    reading_segmenters,
)
from shared.testing.contracts import ServiceContract
from shared.testing.hosting import BadRequest, ask, hosting

ROOMY = Limits(num_calls=6, num_per_caller=4, longest_s=100.0, drain_s=5.0)
ASKED = Question("A4C", wants_masks=True)


@dataclass
class OneAlias:
    """Segmenters that serve."""

    segmenters: Segmenters

    def find(self, alias: str, *, caller: Peer, call: Call) -> Segmenters:
        if alias != "serving":
            raise EchoFedError(Code.MODEL_UNKNOWN, f"no model is called {alias!r}")
        return self.segmenters


def service_of(folder: Path, segmenters: Segmenters, **limits: float) -> Service:
    host = Host(folder, segmenters=OneAlias(segmenters), job_limits=JobLimits(**limits))  # type: ignore[arg-type]
    return SERVICES["segmentation"](host)


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return service_of(tmp_path, reading_segmenters())


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
    return [message.SerializeToString() for part in parts for message in messages_of(part)]


def refused(call: object) -> Code:
    with pytest.raises(EchoFedError) as error:
        list(call()) if callable(call) else None
    return error.value.code


METHODS = {
    "Segment": lambda clip, _: pb.SegmentRequest(part=next(parts_of(clip, ASKED))),
    "Follow": lambda clip, _: first_frame_to(clip.frame(0), ASKED),
    "Submit": lambda clip, _: pb.SubmitRequest(part=next(parts_of(clip, ASKED))),
    "Watch": lambda _, id: pb.WatchRequest(id=id),
    "Result": lambda _, id: pb.ResultRequest(id=id),
    "Cancel": lambda _, id: pb.CancelRequest(id=id),
}
"""A good request to each method."""


class TestSegmentationService(ServiceContract):
    @pytest.fixture
    def bad_requests(self) -> Sequence[BadRequest]:
        frame = Frame(beating_clip(1).pixels_THW[0], (1.0, 1.0), "")
        live = first_frame_to(frame, ASKED)
        live.frame.data = bytes(len(live.frame.data))
        return [
            *clip_requests("Segment", pb.SegmentRequest),
            *clip_requests("Submit", pb.SubmitRequest),
            ("Follow", pb.FollowRequest(), Code.MODEL_UNKNOWN),
            ("Follow", live, Code.WIRE_INVALID),
            ("Follow", first_frame_to(frame, Question("PLAX")), Code.VIEW_UNKNOWN),
            (
                "Follow",
                first_frame_to(replace(frame, mm_per_pixel=None), ASKED),
                Code.SPACING_MISSING,
            ),
            (
                "Follow",
                pb.FollowRequest(
                    question=live.question, frame=tensor_to(frame.pixels_HW.astype(np.int16))
                ),
                Code.WIRE_INVALID,
            ),
            ("Watch", pb.WatchRequest(id="0" * 32), Code.JOB_UNKNOWN),
            ("Watch", pb.WatchRequest(id="../../etc"), Code.JOB_UNKNOWN),
            ("Result", pb.ResultRequest(), Code.JOB_UNKNOWN),
            ("Cancel", pb.CancelRequest(id="x"), Code.JOB_UNKNOWN),
        ]


def clip_requests(method: str, request: type) -> Iterator[BadRequest]:
    """Requests about a clip, each of one message."""
    clip = beating_clip(2)
    blank = replace(clip, pixels_THW=np.full((2, 40, 40), 9, np.uint8))
    (damaged,) = parts_of(clip, ASKED)
    damaged.pixels.data = bytes(len(damaged.pixels.data))
    (typed,), (flat,), (long,) = (list(parts_of(clip, ASKED)) for _ in range(3))
    typed.dtype = "float32"
    del flat.shape[0]
    long.shape[0] = 2**40
    (none,) = parts_of(clip, Question("A4C", wants_contours=False))
    (unscaled,) = parts_of(replace(clip, mm_per_pixel=None), ASKED)
    (empty,) = parts_of(blank, ASKED)
    (view,) = parts_of(clip, Question("PLAX"))
    (alias,) = parts_of(clip, Question("A4C", "severing"))
    for part, code in (
        (pb.ClipPart(), Code.WIRE_INVALID),
        (damaged, Code.WIRE_INVALID),
        (typed, Code.WIRE_INVALID),
        (flat, Code.SHAPE_MISMATCH),
        (long, Code.REQUEST_TOO_LARGE),
        (none, Code.CONFIG_INVALID),
        (unscaled, Code.SPACING_MISSING),
        (empty, Code.SECTOR_EMPTY),
        (view, Code.VIEW_UNKNOWN),
        (alias, Code.MODEL_UNKNOWN),
    ):
        yield method, request(part=part), code


def test_the_answer_is_that_of_the_models_here(channel: Channel) -> None:
    clip = beating_clip(6)
    here = list(answer_clip(reading_segmenters(), clip, ASKED))
    assert as_bytes(list(segment_remotely(channel, clip, ASKED))) == as_bytes(here)


def test_a_frame_is_answered_while_the_next_are_worked_on(
    tmp_path: Path, passes: Mapping[str, Credentials]
) -> None:
    may_go_on = threading.Event()
    pieces: list[int] = []

    def slow(image_N1HW: Floats, mm_per_pixel_N2: Floats) -> tuple[Floats, ...]:
        if pieces:
            may_go_on.wait(10.0)
        pieces.append(len(image_N1HW))
        return reading_masks(image_N1HW, mm_per_pixel_N2)

    service = service_of(tmp_path, Segmenters(Segmenter(MASK_CARD, slow)))
    with calling(service, passes) as channel:
        answers = segment_remotely(channel, beating_clip(12), ASKED)
        early = [next(answers) for _ in range(9)]  # the model's name and eight frames
        assert isinstance(early[-1], FrameAnswer)
        assert pieces == [8]
        may_go_on.set()
        assert isinstance(list(answers)[-1], Measured)


def test_live_frames_are_answered_one_by_one_and_asked_for_when_there_is_room(
    channel: Channel,
) -> None:
    clip = beating_clip(12)
    asked: list[int] = []

    def source() -> Iterator[Frame]:
        for place in range(12):
            asked.append(place)
            yield clip.frame(place)

    answered = 0
    for part in follow_remotely(channel, source(), ASKED):
        if isinstance(part, FrameAnswer):
            assert part.frame == answered
            answered += 1
            assert len(asked) <= answered + 2
            time.sleep(0.01)
    assert answered == 12


def test_who_leaves_live_frames_leaves_no_thread(channel: Channel) -> None:
    clip = beating_clip(1)
    asking: list[threading.Thread] = []

    def endless() -> Iterator[Frame]:
        while True:
            asking.append(threading.current_thread())
            yield clip.frame(0)

    parts = follow_remotely(channel, endless(), ASKED)
    assert next(parts)
    parts.close()  # type: ignore[attr-defined]
    asking[0].join(5.0)
    assert not asking[0].is_alive()


def test_live_frames_may_be_more_than_one_request_may_hold(
    service: Service, passes: Mapping[str, Credentials]
) -> None:
    clip = beating_clip(4)
    narrow = replace(ROOMY, request_bytes=3 * clip.pixels_THW[0].size)
    with calling(service, passes, limits=narrow) as channel:
        frames = (clip.frame(place % 4) for place in range(10))
        parts = list(follow_remotely(channel, frames, ASKED))
        assert sum(isinstance(part, FrameAnswer) for part in parts) == 10
        code = refused(lambda: segment_remotely(channel, clip, ASKED))
    assert code is Code.REQUEST_TOO_LARGE


def test_a_job_answers_as_the_call_would_have(channel: Channel) -> None:
    clip = beating_clip(6)
    id = submit_remotely(channel, clip, ASKED)
    *_, last = watch_job(channel, id)
    assert last == JobStatus("done", 6, 6)
    assert as_bytes(list(fetch_answer(channel, id))) == as_bytes(
        list(segment_remotely(channel, clip, ASKED))
    )
    assert cancel_job(channel, id) == last


def test_a_job_outlives_caller_and_host(tmp_path: Path, passes: Mapping[str, Credentials]) -> None:
    begun, stop = threading.Event(), threading.Event()

    def stuck(image_N1HW: Floats, mm_per_pixel_N2: Floats) -> tuple[Floats, ...]:
        begun.set()
        stop.wait(10.0)
        return reading_masks(image_N1HW, mm_per_pixel_N2)

    first = service_of(tmp_path, Segmenters(Segmenter(MASK_CARD, stuck)))
    with hosting(first, passes, limits=ROOMY) as address:
        with open_channel(address, passes["site"]) as channel:
            id = submit_remotely(channel, beating_clip(4), ASKED)
        assert begun.wait(5.0)
        threading.Timer(0.3, stop.set).start()  # when the host has begun to stop
    second = service_of(tmp_path, Segmenters(Segmenter(MASK_CARD, reading_masks)))
    with hosting(second, passes, limits=ROOMY) as address:
        with open_channel(address, passes["site"]) as channel:
            *_, last = watch_job(channel, id)
            parts = list(fetch_answer(channel, id))
        with open_channel(address, passes["operator"]) as channel:
            assert refused(lambda: fetch_answer(channel, id)) is Code.JOB_UNKNOWN
    assert last.state == "done"
    assert sum(isinstance(part, FrameAnswer) for part in parts) == 4


def test_a_watch_outlives_its_calls_deadline_and_a_cancelled_job_has_no_answer(
    tmp_path: Path, passes: Mapping[str, Credentials]
) -> None:
    stop = threading.Event()

    def stuck(image_N1HW: Floats, mm_per_pixel_N2: Floats) -> tuple[Floats, ...]:
        stop.wait(10.0)
        return reading_masks(image_N1HW, mm_per_pixel_N2)

    service = service_of(tmp_path, Segmenters(Segmenter(MASK_CARD, stuck)), num_per_owner=1)
    with calling(service, passes) as channel:
        id = submit_remotely(channel, beating_clip(4), ASKED)
        busy = refused(lambda: submit_remotely(channel, beating_clip(1), ASKED))
        threading.Timer(0.7, lambda: cancel_job(channel, id)).start()
        *_, last = watch_job(channel, id, timeout_s=0.3)
        assert refused(lambda: fetch_answer(channel, id)) is Code.RESULT_MISSING
        stop.set()
    assert (busy, last.state) == (Code.SERVICE_BUSY, "cancelled")


def test_the_service_stops_working_for_who_has_gone(
    tmp_path: Path, passes: Mapping[str, Credentials]
) -> None:
    pieces: list[int] = []

    def slow(image_N1HW: Floats, mm_per_pixel_N2: Floats) -> tuple[Floats, ...]:
        time.sleep(0.2)
        pieces.append(len(image_N1HW))
        return reading_masks(image_N1HW, mm_per_pixel_N2)

    service = service_of(tmp_path, Segmenters(Segmenter(MASK_CARD, slow)))
    with calling(service, passes) as channel:
        code = refused(lambda: segment_remotely(channel, beating_clip(200), ASKED, timeout_s=0.5))
    assert code is Code.DEADLINE_EXCEEDED
    assert len(pieces) < 6


def phantom(seed: int) -> Clip:
    rng = np.random.default_rng(seed)
    scanner = next(iter(SCANNERS.values()))
    made = render_clip(draw_heart(rng), "A4C", scanner, num_frames=2, size_HW=(120, 160), rng=rng)
    return Clip(made.pixels_THW, made.mm_per_pixel, made.frame_time_ms, "key", "patient")


def test_a_phantom_clip_is_answered_by_networks_as_here(
    tmp_path: Path, passes: Mapping[str, Credentials], seed: int
) -> None:
    cards = (
        replace(MASK_CARD, image_size=64),
        replace(reading_segmenters().contours.card, image_size=64, options=MASK_CARD.options),  # type: ignore[union-attr]
    )
    torch.manual_seed(seed)
    masks, contours = (
        Segmenter(card, build_forward(card, pack_tensors(build_network(card).state_dict())))
        for card in cards
    )
    networks, clip = Segmenters(masks, contours), phantom(seed)
    here = list(answer_clip(networks, clip, ASKED))
    service = service_of(tmp_path, networks)
    with calling(service, passes) as channel:
        there = list(segment_remotely(channel, clip, ASKED))
    assert as_bytes(there) == as_bytes(here)
    frames = [part for part in there if isinstance(part, FrameAnswer)]
    assert all(one.mask is not None for one in frames)
    assert frames[0].mask is not None
    assert frames[0].mask.mask.labels_HW.shape == (120, 160)


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
    clip = Clip(beating_clip(1).pixels_THW[:, 40:72, 32:64], (1.0, 1.0), 80.0, "", "")
    service = service_of(tmp_path, reading_segmenters(), num_waiting=10**6, num_per_owner=10**6)
    generator, process, held = random.Random(seed), psutil.Process(), 0
    codes: Counter[str] = Counter()
    with calling(service, passes) as channel:
        id = submit_remotely(channel, clip, ASKED)
        good = METHODS[method](clip, id).SerializeToString()
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
