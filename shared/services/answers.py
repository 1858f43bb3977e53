"""Answers about clips to messages and back: contours, masks and measurements."""

from collections.abc import Iterator
from dataclasses import replace
from typing import cast, get_args

import numpy as np
from numpy.typing import NDArray

from shared.echo.contour import Contour
from shared.echo.mask import Mask
from shared.echo.measurement import Flag, Measurement, Unit
from shared.echo.model_name import ModelName
from shared.errors import Code, EchoFedError
from shared.pb import segmentation_pb2 as pb
from shared.pb.tensor_pb2 import Chunk, Tensor
from shared.rpc.codec import chunks_of, join_chunks, tensor_from, tensor_to
from shared.segmentation.answer import (
    FrameAnswer,
    Measured,
    Part,
    Unmeasured,
)
from shared.segmentation.predict import PredictedMask
from shared.services.clips import MAX_FRAME_PIXELS, spacing_to
from shared.services.statuses import code_from, failure_from, failure_to, model_from, model_to

_STEPS = 255  # of a doubt


def messages_of(part: Part) -> Iterator[pb.AnswerPart]:
    """The messages of a part of an answer; a mask follows its frame in pieces."""
    match part:
        case ModelName():
            yield pb.AnswerPart(model=model_to(part))
        case FrameAnswer():
            yield pb.AnswerPart(frame=_frame_to(part))
            if part.mask is not None:
                yield from (pb.AnswerPart(mask=chunk) for chunk in chunks_of(_packed(part.mask)))
        case Measured():
            yield pb.AnswerPart(measurements=_measured_to(part))
        case Unmeasured():
            yield pb.AnswerPart(unmeasured=failure_to(part.error))


def parts_from(messages: Iterator[pb.AnswerPart]) -> Iterator[Part]:
    """The parts of an answer, each as soon as its messages are there.

    Raises:
        EchoFedError: WIRE_INVALID for messages that are no answer, or a noun's own code.
    """
    for message in messages:
        match message.WhichOneof("part"):
            case "model":
                yield model_from(message.model)
            case "frame":
                yield _frame_from(message.frame, messages)
            case "measurements":
                yield _measured_from(message.measurements)
            case "unmeasured":
                yield Unmeasured(failure_from(message.unmeasured))
            case _:
                raise _invalid("has a part of an unknown kind")


def contour_to(contour: Contour) -> pb.Contour:
    """The message of a contour."""
    known = contour.covariance is not None
    return pb.Contour(
        points_xy_mm=tensor_to(contour.points_xy_mm),
        apex=contour.apex,
        view=contour.view,
        frame=contour.frame,
        mm_per_pixel=spacing_to(contour.mm_per_pixel),
        covariance_mm2=tensor_to(cast(NDArray[np.float64], contour.covariance)) if known else None,
    )


def contour_from(message: pb.Contour) -> Contour:
    """The contour of a message.

    Raises:
        EchoFedError: WIRE_INVALID, or what refuses a contour that is none.
    """
    known = message.HasField("covariance_mm2")
    return Contour(
        points_xy_mm=_floats(message.points_xy_mm),
        apex=message.apex,
        view=message.view,
        frame=message.frame,
        mm_per_pixel=(message.mm_per_pixel.rows, message.mm_per_pixel.columns),
        covariance=_floats(message.covariance_mm2) if known else None,
    )


def measurement_to(measurement: Measurement) -> pb.Measurement:
    """The message of a measurement."""
    interval = measurement.interval
    return pb.Measurement(
        name=measurement.name,
        value=measurement.value,
        unit=measurement.unit,
        method=measurement.method,
        views=measurement.views,
        frames=measurement.frames,
        mm_per_pixel=map(spacing_to, measurement.mm_per_pixel),
        interval=None
        if interval is None
        else pb.Interval(low=interval[0], high=interval[1], level=measurement.level),
        flags=measurement.flags,
    )


def measurement_from(message: pb.Measurement) -> Measurement:
    """The measurement of a message.

    Raises:
        EchoFedError: WIRE_INVALID for a unit or flag that this release does not know.
    """
    if message.unit not in get_args(Unit) or not set(message.flags) <= set(get_args(Flag)):
        raise _invalid("has a measurement in a unit or with a flag that is not known here")
    found = Measurement(
        name=message.name,
        value=message.value,
        unit=cast(Unit, message.unit),
        method=message.method,
        views=tuple(message.views),
        frames=tuple(message.frames),
        mm_per_pixel=tuple((one.rows, one.columns) for one in message.mm_per_pixel),
        flags=tuple(cast(Flag, flag) for flag in message.flags),
    )
    if not message.HasField("interval"):
        return found
    interval = (message.interval.low, message.interval.high)
    return replace(found, interval=interval, level=message.interval.level)


def _measured_to(measured: Measured) -> pb.Measurements:
    return pb.Measurements(
        measurements=[measurement_to(one) for one in measured.measurements.values()],
        keys=list(measured.measurements),
        cautions=measured.cautions,
        ed=measured.ed,
        es=measured.es,
    )


def _measured_from(message: pb.Measurements) -> Measured:
    if len(message.keys) != len(message.measurements):
        raise _invalid("does not name each measurement")
    found = [measurement_from(one) for one in message.measurements]
    return Measured(
        dict(zip(message.keys, found, strict=True)),
        tuple(message.cautions),
        message.ed if message.HasField("ed") else None,
        message.es if message.HasField("es") else None,
    )


def _frame_to(answer: FrameAnswer) -> pb.FrameAnswer:
    mask = answer.mask
    return pb.FrameAnswer(
        frame=answer.frame,
        contour=None if answer.contour is None else contour_to(answer.contour),
        missing=int(answer.missing or 0),
        spread_mm=answer.spread_mm,
        structures=() if mask is None else mask.mask.names,
        shape=() if mask is None else mask.mask.labels_HW.shape,
        mask_mm_per_pixel=None
        if mask is None or mask.mask.mm_per_pixel is None
        else spacing_to(mask.mask.mm_per_pixel),
    )


def _frame_from(message: pb.FrameAnswer, rest: Iterator[pb.AnswerPart]) -> FrameAnswer:
    return FrameAnswer(
        message.frame,
        contour_from(message.contour) if message.HasField("contour") else None,
        code_from(message.missing) if message.missing else None,
        _mask_from(message, rest) if message.structures else None,
    )


def _packed(predicted: PredictedMask) -> bytes:
    """A byte for each pixel's structure, then a byte for each pixel's doubt."""
    doubts_HW = np.rint(predicted.doubt_HW.clip(0.0, 1.0) * _STEPS).astype(np.uint8)
    return bytes(np.stack([predicted.mask.labels_HW, doubts_HW]).tobytes())


def _mask_from(message: pb.FrameAnswer, rest: Iterator[pb.AnswerPart]) -> PredictedMask:
    if len(message.shape) != 2 or message.shape[0] * message.shape[1] > MAX_FRAME_PIXELS:
        raise _invalid("has a mask of a shape that no frame has")
    rows, columns = message.shape

    def chunks() -> Iterator[Chunk]:
        for part in rest:
            yield part.mask
            if part.mask.sha256:
                return

    size = rows * columns
    packed = np.frombuffer(join_chunks(chunks(), limit_bytes=2 * size), np.uint8)
    if len(packed) != 2 * size:
        raise _invalid("has a mask that does not fill its shape")
    labels_HW, doubts_HW = packed.reshape(2, rows, columns)
    spacing = None
    if message.HasField("mask_mm_per_pixel"):
        spacing = message.mask_mm_per_pixel.rows, message.mask_mm_per_pixel.columns
    mask = Mask(labels_HW, tuple(message.structures), spacing, "")
    return PredictedMask(mask, doubts_HW.astype(np.float32) / np.float32(_STEPS))


def _floats(message: Tensor) -> NDArray[np.float64]:
    array = tensor_from(message)
    if array.dtype != np.float64:
        raise _invalid(f"has points of type {array.dtype}")
    return array


def _invalid(what: str) -> EchoFedError:
    return EchoFedError(Code.WIRE_INVALID, f"the answer {what}", "update the older of the two ends")
