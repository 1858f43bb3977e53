"""What is answered to a question about a clip: masks and contours frame by frame, then numbers."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from shared.echo.contour import Contour, require_spacing
from shared.echo.frame import Clip, MillimetresPerPixel
from shared.echo.measurement import Measurement
from shared.echo.model_name import ModelName
from shared.errors import Code, EchoFedError
from shared.measurement.assess import assess
from shared.measurement.landmarks import contour_of, epicardium_of
from shared.measurement.traced import TracedCine
from shared.segmentation.predict import FIVE_LOOKS, ONE_LOOK, PredictedMask
from shared.segmentation.segmenter import Segmenter

LOOKS = {1: ONE_LOOK, 5: FIVE_LOOKS}
_TRACED = ("background", "lv", "myocardium", "la")  # by value, as contours are found on masks
_NO_CONTOUR = {Code.LANDMARKS_MISSING, Code.CONTOUR_INVALID}
_PIECE = 8  # frames that are answered together
_LONGEST = 6.0  # of the sides of a picture in mm, the longer by the shorter
_LEAST_SPREAD = 1.0  # of a picture's grey values; below there is nothing to see


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a clip or of live frames.

    Args:
        view: id of the view.
        alias: what the models are called at the host.
        wants_contours: contours, and of a clip the measurements (LV mass where masks are wanted
            too); needs mm per pixel.
        num_looks: moves of the frame over which a mask is the mean, one of ``LOOKS``.
    """

    view: str
    alias: str = "serving"
    wants_masks: bool = False
    wants_contours: bool = True
    num_looks: int = 1


@dataclass(frozen=True, slots=True)
class Segmenters:
    """The models that answer together; either may be missing."""

    masks: Segmenter | None = None
    contours: Segmenter | None = None


@dataclass(frozen=True, slots=True, eq=False)
class FrameAnswer:
    """What one frame shows.

    Args:
        frame: index in the clip.
        contour: None where none was asked for or none was found.
        missing: why none was found.
        mask: None where none was asked for or the frame is blank.
    """

    frame: int
    contour: Contour | None = None
    missing: Code | None = None
    mask: PredictedMask | None = None

    @property
    def spread_mm(self) -> float | None:
        """Standard deviation of the contour's points, root of the mean; None where unknown."""
        if self.contour is None or self.contour.covariance is None:
            return None
        variances = np.diagonal(self.contour.covariance)
        return float(np.sqrt(2 * variances.mean()))  # of x and y together


@dataclass(frozen=True, slots=True)
class Measured:
    """The measurements of a clip.

    Args:
        measurements: by what an assessment calls them, such as ``EF area-length A4C``.
        cautions: what speaks against them, by the words of an assessment.
        ed: frame of end diastole, None where the clip holds no beat.
        es: frame of end systole.
    """

    measurements: dict[str, Measurement]
    cautions: tuple[str, ...] = ()
    ed: int | None = None
    es: int | None = None


@dataclass(frozen=True, slots=True)
class Unmeasured:
    """Why a clip has no measurements."""

    error: EchoFedError


Part = ModelName | FrameAnswer | Measured | Unmeasured


def choose_segmenters(
    segmenters: Segmenters, question: Question, mm_per_pixel: MillimetresPerPixel | None
) -> Segmenters:
    """Those models that the question needs: a contour is read off a mask where no other gives it.

    Raises:
        EchoFedError: CONFIG_INVALID for a question that asks for nothing or for another number of
            looks; SPACING_MISSING for contours without mm; MODEL_UNKNOWN and VIEW_UNKNOWN.
    """
    if not (question.wants_masks or question.wants_contours) or question.num_looks not in LOOKS:
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"masks {question.wants_masks}, contours {question.wants_contours} and "
            f"{question.num_looks} looks are nothing to answer",
            f"ask for masks or contours, with {' or '.join(map(str, LOOKS))} looks",
        )
    masks = contours = None
    if question.wants_contours:
        require_spacing(mm_per_pixel)
        able = _who_knows((segmenters.contours, segmenters.masks), question.view)
        contours = able if able.card.answers == "contours" else None
        masks = None if contours else able
    if question.wants_masks:
        masks = _who_knows((segmenters.masks,), question.view)
    return Segmenters(masks, contours)


def answer_clip(segmenters: Segmenters, clip: Clip, question: Question) -> Iterator[Part]:
    """The models, each frame, then the measurements; each as soon as it is there.

    Raises:
        EchoFedError: as ``choose_segmenters`` and ``expect_picture``.
    """
    chosen = choose_segmenters(segmenters, question, clip.mm_per_pixel)
    expect_picture(clip)
    yield from names_of(chosen)
    contours: list[Contour | None] = []
    walls: dict[int, Contour] = {}
    for answer in segment_frames(chosen, clip, question):
        contours.append(answer.contour)
        if (wall := wall_of(answer)) is not None:
            walls[answer.frame] = wall
        yield answer
    if question.wants_contours:
        yield _measured(TracedCine(contours, question.view, clip.frame_time_ms, walls))


def answer_frames(
    segmenters: Segmenters, clips: Iterable[Clip], question: Question
) -> Iterator[Part]:
    """The models, then the answer to each clip of one live frame; a blank one breaks nothing off.

    Raises:
        EchoFedError: as ``choose_segmenters`` and ``segment_frames``.
    """
    for place, clip in enumerate(clips):
        chosen = choose_segmenters(segmenters, question, clip.mm_per_pixel)
        if place == 0:
            yield from names_of(chosen)
        yield from segment_frames(chosen, clip, question, first=place)


def segment_frames(
    chosen: Segmenters, clip: Clip, question: Question, *, first: int = 0
) -> Iterator[FrameAnswer]:
    """Masks and contours of every frame, in order.

    Args:
        chosen: the models for this question, as from ``choose_segmenters``.
        clip: with spacing where contours are wanted.
        question: what is wanted.
        first: what the clip's first frame counts as.

    Raises:
        EchoFedError: SHAPE_MISMATCH for a picture that is a strip.
    """
    _expect_no_strip(clip)
    for begin in range(0, len(clip.pixels_THW), _PIECE):
        pixels_THW = clip.pixels_THW[begin : begin + _PIECE]
        is_seen = _is_seen(pixels_THW)
        found: Iterator[FrameAnswer] = iter(())
        if is_seen.any():
            found = _answers(chosen, replace(clip, pixels_THW=pixels_THW[is_seen]), question)
        for place, seen in enumerate(is_seen.tolist(), first + begin):
            yield (
                _placed(next(found), place) if seen else FrameAnswer(place, None, Code.SECTOR_EMPTY)
            )


def expect_picture(clip: Clip) -> None:
    """Check that there is something to see in any frame.

    Raises:
        EchoFedError: SECTOR_EMPTY; SHAPE_MISMATCH for a picture that is a strip.
    """
    _expect_no_strip(clip)
    if not any(_is_seen(frame[None]).item() for frame in clip.pixels_THW):
        raise EchoFedError(
            Code.SECTOR_EMPTY,
            f"all {len(clip.pixels_THW)} frames of the clip are blank",
            "check that the file shows a 2-D image",
        )


def names_of(chosen: Segmenters) -> Iterator[ModelName]:
    """The models that answer."""
    for one in (chosen.masks, chosen.contours):
        if one is not None:
            yield ModelName(one.card.id, one.card.weights_sha256)


def wall_of(answer: FrameAnswer) -> Contour | None:
    """The outer face of the wall, None where no mask shows a whole one."""
    if answer.mask is None or answer.contour is None:
        return None
    try:
        return epicardium_of(answer.mask.mask.renamed(_TRACED).labels_HW, answer.contour)
    except EchoFedError as error:
        if error.code not in _NO_CONTOUR:
            raise
        return None


def _measured(cine: TracedCine) -> Measured | Unmeasured:
    try:
        found = assess([cine])
    except EchoFedError as error:  # the contours stand without numbers
        return Unmeasured(error)
    (beat,) = found.beats
    return Measured(found.measurements, found.cautions, beat.ed, beat.es)


def _expect_no_strip(clip: Clip) -> None:
    """A strip would be a line or two of pixels to a network."""
    _, rows, columns = clip.pixels_THW.shape
    row_mm, column_mm = clip.mm_per_pixel or (1.0, 1.0)
    sides = sorted((rows * row_mm, columns * column_mm))
    if sides[1] > _LONGEST * sides[0]:
        raise EchoFedError(
            Code.SHAPE_MISMATCH,
            f"a picture of {rows * row_mm:.0f} by {columns * column_mm:.0f} is a strip",
            "check shape and mm per pixel",
        )


def _is_seen(pixels_THW: NDArray[np.uint8]) -> NDArray[np.bool_]:
    seen: NDArray[np.bool_] = pixels_THW.std(axis=(1, 2), dtype=np.float32) >= _LEAST_SPREAD
    return seen


def _answers(chosen: Segmenters, clip: Clip, question: Question) -> Iterator[FrameAnswer]:
    """Of a few frames, counted from 0."""
    num, view = len(clip.pixels_THW), question.view
    masks: Sequence[PredictedMask | None] = [None] * num
    contours: Sequence[Contour | Code | None] = [None] * num
    if chosen.masks is not None:
        masks = chosen.masks.masks(clip, view=view, looks=LOOKS[question.num_looks])
    if chosen.contours is not None:
        traced = chosen.contours.contours(clip, view=view)
        contours = [contour or Code.LANDMARKS_MISSING for contour in traced]
    elif question.wants_contours:
        contours = [_traced(cast(PredictedMask, mask), view) for mask in masks]
    for place, (mask, found) in enumerate(zip(masks, contours, strict=True)):
        shown = mask if question.wants_masks else None
        if isinstance(found, Code):
            yield FrameAnswer(place, None, found, shown)
        else:
            yield FrameAnswer(place, found, None, shown)


def _traced(mask: PredictedMask, view: str) -> Contour | Code:
    """The contour of a mask, or why it has none."""
    try:
        return contour_of(mask.mask.renamed(_TRACED).labels_HW, mask.mask.mm_per_pixel, view=view)
    except EchoFedError as error:
        if error.code not in _NO_CONTOUR:
            raise
        return error.code


def _placed(answer: FrameAnswer, frame: int) -> FrameAnswer:
    contour = answer.contour and replace(answer.contour, frame=frame)
    return replace(answer, frame=frame, contour=contour)


def _who_knows(able: Sequence[Segmenter | None], view: str) -> Segmenter:
    """The first model that has seen the view."""
    there = [one for one in able if one is not None]
    for one in there:
        if view in one.card.views:
            return one
    if not there:
        raise EchoFedError(
            Code.MODEL_UNKNOWN, "no model here answers this question", "ask for what it answers"
        )
    known = sorted({name for one in there for name in one.card.views})
    raise EchoFedError(
        Code.VIEW_UNKNOWN,
        f"no segmenter here has seen the view {view[:40]!r}",
        f"known: {', '.join(known)}",
    )
