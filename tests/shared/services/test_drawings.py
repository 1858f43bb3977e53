"""Drawings arrive as they were, and can be had from any place on."""

from collections.abc import Iterator

import numpy as np
import pytest

from shared.echo.mask import Mask
from shared.echo.model_name import ModelName
from shared.errors import Code, EchoFedError
from shared.pb import synthesis_pb2 as pb
from shared.rpc.codec import CHUNK_BYTES
from shared.services.drawings import drawings_from, from_place, messages_of_drawing
from shared.synthesis.order import Drawing, Part

MODEL = ModelName("north-spade-0", "ab" * 32)


def drawing(place: int, *, side: int = 20, is_released: bool = True) -> Drawing:
    generator = np.random.default_rng(place)
    labels_SS, pixels_SS = generator.integers(0, 3, (2, side, side)).astype(np.uint8)
    return Drawing(
        place=place,
        seed=2**63 - 1 - place,
        map=Mask(labels_SS, ("outside", "background", "lv"), None, ""),
        map_sha256="0" * 64,
        similarity=0.25 * place,
        pixels_SS=pixels_SS if is_released else None,
    )


PARTS: list[Part] = [MODEL, drawing(0), drawing(1, is_released=False), drawing(2, side=1024)]


def messages(parts: list[Part]) -> Iterator[pb.DrawingPart]:
    return (message for part in parts for message in messages_of_drawing(part))


def as_bytes(parts: Iterator[Part]) -> list[bytes]:
    return [message.SerializeToString() for message in messages(list(parts))]


def test_drawings_arrive_as_they_were_in_small_pieces() -> None:
    sent = [message.SerializeToString() for message in messages(PARTS)]
    model, *drawings = drawings_from(pb.DrawingPart.FromString(one) for one in sent)
    assert model == MODEL
    for one, before in zip(drawings, PARTS[1:], strict=True):
        assert isinstance(one, Drawing)
        assert isinstance(before, Drawing)
        assert np.array_equal(one.map.labels_HW, before.map.labels_HW)
        assert one.map.names == before.map.names
        assert one.is_released == before.is_released
        if one.pixels_SS is not None and before.pixels_SS is not None:
            assert np.array_equal(one.pixels_SS, before.pixels_SS)
        for field in ("place", "seed", "map_sha256", "similarity"):
            assert getattr(one, field) == getattr(before, field)
    assert max(map(len, sent)) < CHUNK_BYTES + 100


def test_of_an_image_that_is_not_released_no_pixel_travels() -> None:
    kinds = [one.WhichOneof("part") for one in messages([drawing(1, is_released=False)])]
    assert kinds == ["drawing", "labels"]


@pytest.mark.parametrize("first", range(5))
def test_drawings_can_be_had_from_any_place_on(first: int) -> None:
    later = drawings_from(from_place(messages(PARTS), first))
    assert as_bytes(later) == as_bytes(iter([MODEL, *PARTS[1 + first :]]))


HEAD, LABELS, PIXELS = (message.SerializeToString() for message in messages([drawing(0)]))


def shaped(*sides: int) -> list[bytes]:
    head = pb.DrawingPart.FromString(HEAD)
    head.drawing.shape[:] = sides
    return [head.SerializeToString(), LABELS, PIXELS]


def unnamed() -> list[bytes]:
    head = pb.DrawingPart.FromString(HEAD)
    del head.drawing.structures[1:]
    return [head.SerializeToString(), LABELS, PIXELS]


def turned() -> list[bytes]:
    pixels = pb.DrawingPart.FromString(PIXELS)
    pixels.pixels.data = pixels.pixels.data[::-1]
    return [HEAD, LABELS, pixels.SerializeToString()]


@pytest.mark.parametrize(
    ("damaged", "code"),
    [
        ([b""], Code.WIRE_INVALID),
        ([PIXELS], Code.WIRE_INVALID),
        ([HEAD, PIXELS], Code.WIRE_INVALID),
        ([HEAD, LABELS], Code.WIRE_INVALID),
        ([HEAD, HEAD], Code.WIRE_INVALID),
        (shaped(20), Code.WIRE_INVALID),
        (shaped(20, 30), Code.WIRE_INVALID),
        (shaped(30, 30), Code.WIRE_INVALID),
        (shaped(2**40, 2**40), Code.WIRE_INVALID),
        (turned(), Code.WIRE_INVALID),
        (shaped(16, 16), Code.REQUEST_TOO_LARGE),
        (unnamed(), Code.LABEL_UNMAPPED),
    ],
)
def test_damaged_drawings_are_refused(damaged: list[bytes], code: Code) -> None:
    with pytest.raises(EchoFedError) as refused:
        list(drawings_from(pb.DrawingPart.FromString(one) for one in damaged))
    assert refused.value.code is code
