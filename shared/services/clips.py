"""Questions and clips to messages and back; what arrives is held against what a clip can be."""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import numpy as np

from shared.echo.frame import Clip, Frame, MillimetresPerPixel
from shared.errors import Code, EchoFedError
from shared.files import arrays_from_bytes, arrays_to_bytes
from shared.pb import segmentation_pb2 as pb
from shared.pb.tensor_pb2 import Chunk
from shared.rpc.codec import chunks_of, join_chunks, tensor_from, tensor_to
from shared.segmentation.answer import Question

MAX_FRAMES = 10_000
MIN_SIDE, MAX_SIDE = 16, 4096
MAX_FRAME_PIXELS = 2048 * 2048
"""Probabilities of all structures are held for one frame at its own size."""
_FINEST_MM, _COARSEST_MM = 0.005, 20.0  # any probe, and room for pictures that were shrunk
_DTYPE = "uint8"


def question_to(
    question: Question, mm_per_pixel: MillimetresPerPixel | None, frame_time_ms: float | None = None
) -> pb.Question:
    """The message of a question about pictures of a spacing."""
    return pb.Question(
        alias=question.alias,
        view=question.view,
        mm_per_pixel=None if mm_per_pixel is None else spacing_to(mm_per_pixel),
        frame_time_ms=frame_time_ms,
        wants_masks=question.wants_masks,
        wants_contours=question.wants_contours,
        num_looks=question.num_looks,
    )


def question_from(message: pb.Question) -> Question:
    """The question of a message."""
    return Question(
        view=message.view,
        alias=message.alias,
        wants_masks=message.wants_masks,
        wants_contours=message.wants_contours,
        num_looks=message.num_looks or 1,
    )


def spacing_to(mm_per_pixel: MillimetresPerPixel) -> pb.Spacing:
    """The message of a spacing."""
    return pb.Spacing(rows=mm_per_pixel[0], columns=mm_per_pixel[1])


def parts_of(clip: Clip, question: Question) -> Iterator[pb.ClipPart]:
    """The pieces of a question about a clip; neither its key nor its patient goes with it."""
    chunks = chunks_of(np.ascontiguousarray(clip.pixels_THW).tobytes())
    asked = question_to(question, clip.mm_per_pixel, clip.frame_time_ms)
    shape, dtype = clip.pixels_THW.shape, clip.pixels_THW.dtype.name
    first = pb.ClipPart(question=asked, shape=shape, dtype=dtype, pixels=next(chunks))
    return chain([first], (pb.ClipPart(pixels=chunk) for chunk in chunks))


def clip_from(parts: Iterator[pb.ClipPart]) -> tuple[Clip, Question]:
    """The clip of its pieces, and what is asked about it.

    Raises:
        EchoFedError: WIRE_INVALID for another type, a missing or damaged piece and for a number
            that no clip has; SHAPE_MISMATCH; FRAMES_MISSING; REQUEST_TOO_LARGE.
    """
    first = next(parts, pb.ClipPart())
    shape = _expect_shape(first.shape, first.dtype)
    spacing, frame_time_ms = _scale_from(first.question)
    size = math.prod(shape)
    pixels = join_chunks(_pixels(first, parts), limit_bytes=size)
    if len(pixels) != size:
        raise _invalid(f"has {len(pixels)} pixels, which do not fill its shape")
    pixels_THW = np.frombuffer(pixels, np.uint8).reshape(shape)
    return Clip(pixels_THW, spacing, frame_time_ms, "", ""), question_from(first.question)


def frame_to(frame: Frame) -> pb.FollowRequest:
    """The message of a live frame after the first."""
    return pb.FollowRequest(frame=tensor_to(frame.pixels_HW))


def first_frame_to(frame: Frame, question: Question) -> pb.FollowRequest:
    """The message of the first live frame, whose spacing is that of all."""
    asked = question_to(question, frame.mm_per_pixel)
    return pb.FollowRequest(question=asked, frame=tensor_to(frame.pixels_HW))


def frames_from(messages: Iterator[pb.FollowRequest]) -> tuple[Question, Iterator[Clip]]:
    """What is asked, and each live frame as a clip of one, when it is asked for.

    Raises:
        EchoFedError: as ``clip_from``, of a frame when it comes.
    """
    first = next(messages, pb.FollowRequest())
    spacing, frame_time_ms = _scale_from(first.question)

    def clips() -> Iterator[Clip]:
        for place, message in enumerate(chain([first], messages)):
            if place and message.HasField("question"):
                raise _invalid("asks twice")
            pixels_HW = tensor_from(message.frame)
            _expect_shape((1, *pixels_HW.shape), message.frame.dtype)
            yield Clip(pixels_HW[None], spacing, frame_time_ms, "", "")

    return question_from(first.question), clips()


def pack_clip(clip: Clip, question: Question) -> bytes:
    """A clip with its question as a job keeps them."""
    asked = question_to(question, clip.mm_per_pixel, clip.frame_time_ms).SerializeToString()
    arrays = {"pixels": clip.pixels_THW, "question": np.frombuffer(asked, np.uint8)}
    return arrays_to_bytes(arrays, {})


def unpack_clip(packed: bytes) -> tuple[Clip, Question]:
    """What ``pack_clip`` packed.

    Raises:
        EchoFedError: CHECKPOINT_CORRUPT.
    """
    arrays, _ = arrays_from_bytes(packed)
    asked = pb.Question.FromString(arrays["question"].tobytes())
    spacing, frame_time_ms = _scale_from(asked)
    return Clip(arrays["pixels"], spacing, frame_time_ms, "", ""), question_from(asked)


def _pixels(first: pb.ClipPart, rest: Iterable[pb.ClipPart]) -> Iterator[Chunk]:
    if first.HasField("pixels"):
        yield first.pixels
    for part in rest:
        if part.HasField("question"):
            raise _invalid("asks twice")
        yield part.pixels


def _scale_from(message: pb.Question) -> tuple[MillimetresPerPixel | None, float | None]:
    """Spacing and time between frames, None where they are not named."""
    spacing, frame_time_ms = None, None
    if message.HasField("mm_per_pixel"):
        spacing = message.mm_per_pixel.rows, message.mm_per_pixel.columns
        if not all(_FINEST_MM <= mm <= _COARSEST_MM for mm in spacing):
            raise _invalid(f"names a spacing of {spacing[0]:g} by {spacing[1]:g} mm")
    if message.HasField("frame_time_ms"):
        frame_time_ms = message.frame_time_ms
        if not 0.0 < frame_time_ms < math.inf:
            raise _invalid(f"names {frame_time_ms:g} ms between frames")
    return spacing, frame_time_ms


def _expect_shape(shape: Sequence[int], dtype: str) -> tuple[int, ...]:
    if dtype != _DTYPE:
        raise _invalid(f"holds {dtype[:20]!r}; pixels are {_DTYPE}")
    if len(shape) != 3:
        raise EchoFedError(
            Code.SHAPE_MISMATCH,
            f"a clip has frames, rows and columns; this one has {len(shape)} axes",
            "send grey pictures",
        )
    num, rows, columns = shape
    if not num:
        raise EchoFedError(Code.FRAMES_MISSING, "the clip has no frames", "send some")
    if min(rows, columns) < MIN_SIDE:
        raise EchoFedError(
            Code.SHAPE_MISMATCH,
            f"a picture of {rows} by {columns} pixels is no ultrasound picture",
            f"send one of {MIN_SIDE} pixels a side at least",
        )
    if num > MAX_FRAMES or max(rows, columns) > MAX_SIDE or rows * columns > MAX_FRAME_PIXELS:
        raise EchoFedError(
            Code.REQUEST_TOO_LARGE,
            f"{num} frames of {rows} by {columns} pixels are more than is taken",
            f"at most {MAX_FRAMES} frames of {MAX_FRAME_PIXELS} pixels, {MAX_SIDE} a side",
        )
    return num, rows, columns


def _invalid(what: str) -> EchoFedError:
    return EchoFedError(Code.WIRE_INVALID, f"the clip {what}", "check the caller's release")
