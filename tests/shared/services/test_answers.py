"""What is answered arrives as it was: contours, masks, measurements, failures."""

from dataclasses import fields, replace

import numpy as np
import pytest

from shared.echo.contour import Contour
from shared.echo.mask import Mask
from shared.echo.measurement import Measurement
from shared.echo.model_name import ModelName
from shared.errors import Code, EchoFedError
from shared.pb import jobs_pb2
from shared.pb import segmentation_pb2 as pb
from shared.rpc.codec import tensor_to
from shared.segmentation.answer import (
    FrameAnswer,
    Measured,
    Part,
    Unmeasured,
)
from shared.segmentation.predict import PredictedMask
from shared.services.answers import (
    contour_from,
    contour_to,
    measurement_from,
    measurement_to,
    messages_of,
    parts_from,
)
from shared.testing.contours import half_ellipse, with_noise

MEASURED = Measurement(
    "EF", 61.5, "%", "biplane disks", ("A4C", "A2C"), (0, 9), ((0.3, 0.31), (0.2, 0.2)),
    (55.0, 68.0), 0.9, ("foreshortened",),
)  # fmt: skip


BOTH = {"EF": MEASURED, "EF area-length A4C": replace(MEASURED, method="area-length")}


def mask(size_HW: tuple[int, int]) -> PredictedMask:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, size_HW).astype(np.uint8)
    found = Mask(labels, ("background", "lv", "myocardium"), (0.3, 0.4), "key")
    return PredictedMask(found, rng.random(size_HW).astype(np.float32))


def sent(*parts: Part) -> list[Part]:
    messages = [message.SerializeToString() for part in parts for message in messages_of(part)]
    return list(parts_from(pb.AnswerPart.FromString(one) for one in messages))


def same_contour(one: Contour | None, other: Contour | None) -> None:
    assert one is not None
    assert other is not None
    for field in fields(Contour):
        assert np.array_equal(getattr(one, field.name), getattr(other, field.name)), field.name


@pytest.mark.parametrize("contour", [half_ellipse(frame=3), with_noise(half_ellipse(), 1.5)])
def test_a_contour_arrives_as_it_was(contour: Contour) -> None:
    same_contour(contour_from(contour_to(contour)), contour)


@pytest.mark.parametrize("one", [MEASURED, replace(MEASURED, interval=None, level=0.95, flags=())])
def test_a_measurement_arrives_as_it_was(one: Measurement) -> None:
    assert measurement_from(measurement_to(one)) == one


@pytest.mark.parametrize("change", [{"unit": "furlong"}, {"flags": ["haunted"]}])
def test_a_measurement_of_a_newer_release_is_refused(change: dict[str, object]) -> None:
    message = measurement_to(MEASURED)
    message.MergeFrom(pb.Measurement(**change))  # type: ignore[arg-type]
    with pytest.raises(EchoFedError) as refused:
        measurement_from(message)
    assert refused.value.code is Code.WIRE_INVALID


@pytest.mark.parametrize("size_HW", [(5, 7), (1030, 1030)])
def test_a_mask_arrives_as_it_was_and_its_doubt_to_half_a_step(size_HW: tuple[int, int]) -> None:
    before = mask(size_HW)
    answer, after = sent(FrameAnswer(4, None, None, before), FrameAnswer(5))
    assert isinstance(answer, FrameAnswer)
    assert isinstance(after, FrameAnswer)
    assert answer.mask is not None
    assert np.array_equal(answer.mask.mask.labels_HW, before.mask.labels_HW)
    assert answer.mask.mask.names == before.mask.names
    assert answer.mask.mask.mm_per_pixel == before.mask.mm_per_pixel
    assert np.abs(answer.mask.doubt_HW - before.doubt_HW).max() <= 0.5001 / 255
    assert (answer.frame, after.frame, after.mask) == (4, 5, None)


def test_no_message_of_a_large_mask_is_long() -> None:
    sizes = [one.ByteSize() for one in messages_of(FrameAnswer(0, None, None, mask((2048, 2048))))]
    assert max(sizes) < 1.01 * 1024 * 1024
    assert sum(sizes) > 2 * 2048 * 2048


def test_an_answer_arrives_in_order() -> None:
    contour = with_noise(half_ellipse(), 1.0)
    failure = EchoFedError(Code.FRAMES_MISSING, "kein Schlag → größer", "give a cine")
    model, first, second, numbers, none = sent(
        ModelName("north-unet-0", "ab" * 32),
        FrameAnswer(0, contour),
        FrameAnswer(1, None, Code.LANDMARKS_MISSING),
        Measured(BOTH, ("single_plane",), 0, 9),
        Unmeasured(failure),
    )
    assert sent(Measured({})) == [Measured({})]
    assert model == ModelName("north-unet-0", "ab" * 32)
    assert isinstance(first, FrameAnswer)
    same_contour(first.contour, contour)
    assert isinstance(second, FrameAnswer)
    assert (second.frame, second.contour, second.missing) == (1, None, Code.LANDMARKS_MISSING)
    assert isinstance(numbers, Measured)
    assert numbers == Measured(BOTH, ("single_plane",), 0, 9)
    assert list(numbers.measurements) == list(BOTH)
    assert isinstance(none, Unmeasured)
    assert str(none.error) == str(failure)


def test_the_quality_of_a_contour_goes_with_it() -> None:
    (message,) = messages_of(FrameAnswer(0, with_noise(half_ellipse(), 1.5)))
    assert message.frame.spread_mm == pytest.approx(1.5 * 2**0.5)
    (message,) = messages_of(FrameAnswer(0, half_ellipse()))
    assert not message.frame.HasField("spread_mm")


def damaged(what: str) -> list[pb.AnswerPart]:
    first, *chunks = messages_of(FrameAnswer(0, half_ellipse(), None, mask((1100, 1000))))
    changes = {
        "cut": lambda: chunks.pop(),
        "swapped": lambda: chunks.reverse(),
        "changed": lambda: chunks[0].mask.MergeFrom(type(chunks[0].mask)(data=bytes(9))),
        "shape": lambda: first.frame.shape.append(3),
        "huge": lambda: first.frame.shape.__setitem__(0, 2**40),
        "small": lambda: first.frame.shape.__setitem__(0, 2000),
        "float32": lambda: first.frame.contour.points_xy_mm.CopyFrom(
            tensor_to(np.zeros((9, 2), np.float32))
        ),
        "nothing": lambda: first.Clear(),
        "unnamed": lambda: first.measurements.measurements.append(measurement_to(MEASURED)),
        "structure": lambda: first.frame.structures.pop(),
    }
    changes[what]()
    return [first, *chunks]


@pytest.mark.parametrize(
    ("what", "code"),
    [
        *((what, Code.WIRE_INVALID) for what in ("cut", "swapped", "changed", "shape", "huge")),
        *((what, Code.WIRE_INVALID) for what in ("small", "float32", "nothing")),
        ("unnamed", Code.WIRE_INVALID),
        ("structure", Code.LABEL_UNMAPPED),
    ],
)
def test_a_damaged_answer_is_refused(what: str, code: Code) -> None:
    with pytest.raises(EchoFedError) as refused:
        list(parts_from(iter(damaged(what))))
    assert refused.value.code is code


def test_a_code_of_a_newer_release_is_an_internal_error() -> None:
    (part,) = parts_from(
        iter([pb.AnswerPart(unmeasured=jobs_pb2.Failure(code=250, message="moon"))])
    )
    assert isinstance(part, Unmeasured)
    assert (part.error.code, part.error.message) == (Code.INTERNAL, "moon")
