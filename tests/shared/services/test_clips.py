"""A clip arrives as it was sent, without whose it is; what no clip can be is refused."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from shared.echo.frame import Clip, Frame
from shared.errors import Code, EchoFedError
from shared.pb import segmentation_pb2 as pb
from shared.rpc.codec import CHUNK_BYTES, tensor_to
from shared.segmentation.answer import Question
from shared.services.clips import (
    clip_from,
    first_frame_to,
    frame_to,
    frames_from,
    pack_clip,
    parts_of,
    unpack_clip,
)

ASKED = Question("A4C", "candidate", wants_masks=True, wants_contours=False, num_looks=5)


def clip(*shape: int, mm: tuple[float, float] | None = (0.3, 0.4), ms: float | None = 21.5) -> Clip:
    pixels = np.random.default_rng(0).integers(0, 256, shape or (3, 20, 30)).astype(np.uint8)
    return Clip(pixels, mm, ms, "key-of-clip", "key-of-patient")


def same(one: Clip, other: Clip) -> None:
    assert np.array_equal(one.pixels_THW, other.pixels_THW)
    assert one.pixels_THW.dtype == np.uint8
    assert (one.mm_per_pixel, one.frame_time_ms) == (other.mm_per_pixel, other.frame_time_ms)


def refused(call: Callable[[], object]) -> Code:
    with pytest.raises(EchoFedError) as error:
        call()
    return error.value.code


@pytest.mark.parametrize(
    "before", [clip(), clip(mm=None, ms=None), clip(1, 16, 16), clip(3, 700, 800)]
)
def test_a_clip_arrives_as_it_was_in_small_pieces(before: Clip) -> None:
    messages = [part.SerializeToString() for part in parts_of(before, ASKED)]
    after, question = clip_from(pb.ClipPart.FromString(one) for one in messages)
    same(after, before)
    assert question == ASKED
    assert max(map(len, messages)) < CHUNK_BYTES + 200


def test_pixels_in_any_order_of_memory_arrive_as_they_are_seen() -> None:
    turned = replace(clip(), pixels_THW=clip().pixels_THW.transpose(0, 2, 1)[:, ::-1])
    same(clip_from(iter(list(parts_of(turned, ASKED))))[0], turned)


def test_nobody_is_named_on_the_wire_or_in_a_job() -> None:
    everything = b"".join(part.SerializeToString() for part in parts_of(clip(), ASKED))
    assert b"key-of" not in everything + pack_clip(clip(), ASKED)
    after, _ = clip_from(parts_of(clip(), ASKED))
    assert (after.key, after.patient) == ("", "")


@pytest.mark.parametrize("before", [clip(), clip(mm=None, ms=None)])
def test_a_job_keeps_a_clip_as_it_was(before: Clip) -> None:
    after, question = unpack_clip(pack_clip(before, ASKED))
    same(after, before)
    assert question == ASKED


def test_live_frames_arrive_one_by_one_with_the_scale_of_the_first() -> None:
    asked = [Frame(frame, (0.3, 0.4), "") for frame in clip().pixels_THW]
    taken: list[int] = []

    def messages() -> Iterator[pb.FollowRequest]:
        for place, frame in enumerate(asked):
            taken.append(place)
            yield frame_to(frame) if place else first_frame_to(frame, ASKED)

    question, clips = frames_from(messages())
    assert question == ASKED
    for place, one in enumerate(clips):
        assert len(taken) == place + 1  # none is read before the one before it was answered
        assert np.array_equal(one.pixels_THW[0], asked[place].pixels_HW)
        assert one.mm_per_pixel == (0.3, 0.4)


def test_live_frames_are_asked_about_once() -> None:
    first = first_frame_to(Frame(clip().pixels_THW[0], None, ""), ASKED)
    _, clips = frames_from(iter([first, first]))
    next(clips)
    assert refused(lambda: next(clips)) is Code.WIRE_INVALID


def spoilt(change: Callable[[pb.ClipPart], object]) -> Code:
    first, *rest = parts_of(clip(3, 700, 800), ASKED)
    change(first)
    return refused(lambda: clip_from(iter([first, *rest])))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda part: setattr(part, "dtype", "float32"), Code.WIRE_INVALID),
        (lambda part: setattr(part, "dtype", ""), Code.WIRE_INVALID),
        (lambda part: part.shape.append(3), Code.SHAPE_MISMATCH),
        (lambda part: part.shape.__setitem__(1, 8), Code.SHAPE_MISMATCH),
        (lambda part: part.shape.__setitem__(0, 0), Code.FRAMES_MISSING),
        (lambda part: part.shape.__setitem__(0, 2), Code.REQUEST_TOO_LARGE),
        (lambda part: part.shape.__setitem__(0, 4), Code.WIRE_INVALID),
        (lambda part: part.shape.__setitem__(0, 2**60), Code.REQUEST_TOO_LARGE),
        (lambda part: part.shape.__setitem__(2, 5000), Code.REQUEST_TOO_LARGE),
        (lambda part: part.ClearField("pixels"), Code.WIRE_INVALID),
        (lambda part: setattr(part.pixels, "data", bytes(CHUNK_BYTES)), Code.WIRE_INVALID),
        (lambda part: setattr(part.pixels, "offset", 1), Code.WIRE_INVALID),
        (lambda part: setattr(part.question.mm_per_pixel, "rows", 0.0), Code.WIRE_INVALID),
        (lambda part: setattr(part.question.mm_per_pixel, "rows", -0.3), Code.WIRE_INVALID),
        (lambda part: setattr(part.question.mm_per_pixel, "rows", np.nan), Code.WIRE_INVALID),
        (lambda part: setattr(part.question.mm_per_pixel, "rows", 1e6), Code.WIRE_INVALID),
        (lambda part: setattr(part.question, "frame_time_ms", 0.0), Code.WIRE_INVALID),
        (lambda part: setattr(part.question, "frame_time_ms", np.inf), Code.WIRE_INVALID),
    ],
)
def test_what_no_clip_can_be_is_refused(
    change: Callable[[pb.ClipPart], object], code: Code
) -> None:
    assert spoilt(change) is code


def test_a_question_stands_at_the_beginning_once() -> None:
    first, *rest = parts_of(clip(3, 700, 800), ASKED)
    rest[0].question.CopyFrom(first.question)
    assert refused(lambda: clip_from(iter([first, *rest]))) is Code.WIRE_INVALID
    assert refused(lambda: clip_from(iter([]))) is Code.WIRE_INVALID


@pytest.mark.parametrize(
    ("pixels", "code"),
    [
        (np.zeros((20, 20), np.float32), Code.WIRE_INVALID),
        (np.zeros((20, 20, 3), np.uint8), Code.SHAPE_MISMATCH),
        (np.zeros((20, 2), np.uint8), Code.SHAPE_MISMATCH),
    ],
)
def test_a_live_frame_that_is_none_is_refused(pixels: np.ndarray, code: Code) -> None:
    first = first_frame_to(Frame(clip().pixels_THW[0], None, ""), ASKED)
    _, clips = frames_from(iter([first, pb.FollowRequest(frame=tensor_to(pixels))]))
    next(clips)
    assert refused(lambda: next(clips)) is code
