"""Drawn images to messages and back, each with its stamp and its label map."""

from collections.abc import Iterator

import numpy as np

from shared.echo.mask import Mask
from shared.echo.model_name import ModelName
from shared.errors import Code, EchoFedError
from shared.pb import synthesis_pb2 as pb
from shared.pb.tensor_pb2 import Chunk
from shared.rpc.codec import chunks_of, join_chunks
from shared.services.statuses import model_from, model_to
from shared.synthesis.order import MAX_SIDE, MIN_SIDE, Drawing, Labels, Part


def messages_of_drawing(part: Part) -> Iterator[pb.DrawingPart]:
    """The messages of a part; label map and pixels follow their drawing in pieces."""
    match part:
        case ModelName():
            yield pb.DrawingPart(model=model_to(part))
        case Drawing():
            yield pb.DrawingPart(drawing=_drawing_to(part))
            labels = part.map.labels_HW.tobytes()
            yield from (pb.DrawingPart(labels=chunk) for chunk in chunks_of(labels))
            if part.pixels_SS is not None:
                pixels = part.pixels_SS.tobytes()
                yield from (pb.DrawingPart(pixels=chunk) for chunk in chunks_of(pixels))


def drawings_from(messages: Iterator[pb.DrawingPart]) -> Iterator[Part]:
    """The model, then each drawing as soon as its messages are there.

    Raises:
        EchoFedError: WIRE_INVALID for messages that are no drawings, or a noun's own code.
    """
    for message in messages:
        match message.WhichOneof("part"):
            case "model":
                yield model_from(message.model)
            case "drawing":
                yield _drawing_from(message.drawing, messages)
            case _:
                raise _invalid("has a part of an unknown kind")


def from_place(messages: Iterator[pb.DrawingPart], first: int) -> Iterator[pb.DrawingPart]:
    """The model, and the drawings from a place on with what follows them."""
    is_wanted = True
    for message in messages:
        if message.HasField("drawing"):
            is_wanted = message.drawing.place >= first
        if is_wanted:
            yield message


def _drawing_to(drawing: Drawing) -> pb.Drawing:
    return pb.Drawing(
        place=drawing.place,
        seed=drawing.seed,
        map_sha256=drawing.map_sha256,
        similarity=drawing.similarity,
        is_released=drawing.is_released,
        shape=drawing.map.labels_HW.shape,
        structures=drawing.map.names,
    )


def _drawing_from(message: pb.Drawing, rest: Iterator[pb.DrawingPart]) -> Drawing:
    sides = tuple(message.shape)
    if len(sides) != 2 or sides[0] != sides[1] or not MIN_SIDE <= sides[0] <= MAX_SIDE:
        raise _invalid("has an image of a shape that none has")
    labels_SS = _square(rest, "labels", sides)
    return Drawing(
        place=message.place,
        seed=message.seed,
        map=Mask(labels_SS, tuple(message.structures), None, ""),
        map_sha256=message.map_sha256,
        similarity=message.similarity,
        pixels_SS=_square(rest, "pixels", sides) if message.is_released else None,
    )


def _square(rest: Iterator[pb.DrawingPart], field: str, sides: tuple[int, ...]) -> Labels:
    def chunks() -> Iterator[Chunk]:
        for part in rest:
            if not part.HasField(field):
                raise _invalid(f"has no {field} where they belong")
            chunk: Chunk = getattr(part, field)
            yield chunk
            if chunk.sha256:
                return

    size = sides[0] * sides[1]
    packed = join_chunks(chunks(), limit_bytes=size)
    if len(packed) != size:
        raise _invalid(f"has {field} that do not fill its shape")
    return np.frombuffer(packed, np.uint8).reshape(sides)


def _invalid(what: str) -> EchoFedError:
    return EchoFedError(Code.WIRE_INVALID, f"the answer {what}", "update the older of the two ends")
