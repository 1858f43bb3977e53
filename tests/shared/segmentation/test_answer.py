"""A clip is answered frame by frame as each frame would be alone, and refused at the door."""

from dataclasses import replace

import numpy as np
import pytest

from shared.echo.contour import Contour
from shared.echo.frame import Clip
from shared.echo.model_name import ModelName
from shared.errors import Code, EchoFedError
from shared.segmentation.answer import (
    FrameAnswer,
    Measured,
    Question,
    Segmenters,
    Unmeasured,
    answer_clip,
    answer_frames,
    choose_segmenters,
    segment_frames,
)
from shared.testing.beating import (
    CONTOUR_CARD,
    EF,
    LENGTH_MM,
    MASK_CARD,
    RADIUS_MM,
    SQUEEZE,
    beating_clip,
    reading_segmenters,
)

BOTH = reading_segmenters()
MASKS = Segmenters(masks=BOTH.masks)
ASKED = Question("A4C", wants_masks=True)


def frames_of(segmenters: Segmenters, clip: Clip, question: Question = ASKED) -> list[FrameAnswer]:
    chosen = choose_segmenters(segmenters, question, clip.mm_per_pixel)
    return list(segment_frames(chosen, clip, question))


def area(answer: FrameAnswer) -> float:
    assert answer.contour is not None
    return answer.contour.area_mm2


def test_models_come_first_then_frames_in_order_then_numbers() -> None:
    first, *middle, last = answer_clip(MASKS, beating_clip(11), ASKED)
    assert first == ModelName(MASK_CARD.id, MASK_CARD.weights_sha256)
    places = [part.frame for part in middle if isinstance(part, FrameAnswer)]
    assert places == list(range(11))
    assert isinstance(last, Measured)


def test_contours_of_masks_enclose_the_cavity() -> None:
    answers = frames_of(MASKS, beating_clip(12))
    for place, scale in ((0, 1.0), (6, 1 - SQUEEZE)):
        assert area(answers[place]) == pytest.approx(
            np.pi * RADIUS_MM * LENGTH_MM * scale**2 / 2, rel=0.03
        )
        contour = answers[place].contour
        assert contour is not None
        assert contour.frame == place


def test_the_ejection_fraction_is_that_of_the_cavity() -> None:
    *_, told = answer_clip(MASKS, beating_clip(12), ASKED)
    assert isinstance(told, Measured)
    ef = told.measurements["EF"]
    assert ef.value == pytest.approx(EF, abs=2.5)
    assert ef.frames == (told.ed, told.es) == (0, 6)


def test_each_frame_is_answered_as_it_is_alone() -> None:
    clip = beating_clip(11)
    together = frames_of(MASKS, clip)
    singles = (replace(clip, pixels_THW=frame[None]) for frame in clip.pixels_THW)
    alone = [one for one in answer_frames(MASKS, singles, ASKED) if isinstance(one, FrameAnswer)]
    assert [one.frame for one in alone] == list(range(11))
    for one, other in zip(together, alone, strict=True):
        assert one.contour is not None
        assert other.contour is not None
        assert np.array_equal(one.contour.points_xy_mm, other.contour.points_xy_mm)
        assert one.contour.frame == other.contour.frame == one.frame
        assert one.mask is not None
        assert other.mask is not None
        assert np.array_equal(one.mask.mask.labels_HW, other.mask.mask.labels_HW)


@pytest.mark.parametrize("segmenters", [BOTH, MASKS])
def test_a_blank_frame_is_told_and_moves_no_other(segmenters: Segmenters) -> None:
    clip = beating_clip(12)
    pixels = clip.pixels_THW.copy()
    pixels[[2, 8]] = 7
    answers = frames_of(segmenters, replace(clip, pixels_THW=pixels))
    assert [one.frame for one in answers if one.missing] == [2, 8]
    for one, whole in zip(answers, frames_of(segmenters, clip), strict=True):
        if one.missing:
            assert (one.missing, one.contour, one.mask) == (Code.SECTOR_EMPTY, None, None)
        else:
            assert one.frame == whole.frame
            assert area(one) == area(whole)


def test_a_frame_without_cavity_says_why_and_keeps_its_mask() -> None:
    clip = beating_clip(3)
    pixels = clip.pixels_THW.copy()
    pixels[1, :60] = 0
    pixels[1, :8, :8] = 80  # a crumb of cavity
    answer = frames_of(MASKS, replace(clip, pixels_THW=pixels))[1]
    assert (answer.contour, answer.missing) == (None, Code.LANDMARKS_MISSING)
    assert answer.mask is not None


def test_the_mass_is_measured_where_masks_are_asked_for() -> None:
    with_masks, without = (
        [*answer_clip(MASKS, beating_clip(12), Question("A4C", wants_masks=wants))][-1]
        for wants in (True, False)
    )
    assert isinstance(with_masks, Measured)
    assert isinstance(without, Measured)
    assert with_masks.measurements.keys() - without.measurements.keys() == {"LV mass"}


def test_a_single_frame_is_a_still() -> None:
    *_, told = answer_clip(MASKS, beating_clip(1), ASKED)
    assert isinstance(told, Measured)
    assert (told.ed, told.es, "still" in told.cautions) == (None, None, True)
    assert "EF" not in told.measurements


def test_a_clip_without_contours_says_why_nothing_is_measured() -> None:
    clip = beating_clip(2)
    bare = replace(clip, pixels_THW=np.where(clip.pixels_THW == 80, 0, clip.pixels_THW))
    *frames, told = answer_clip(MASKS, bare, ASKED)
    assert isinstance(told, Unmeasured)
    assert told.error.code is Code.LANDMARKS_MISSING
    assert len(frames) == 3


def test_the_contour_network_is_asked_where_it_knows_the_view_and_its_covariance_is_told() -> None:
    clip = beating_clip(2)
    four, two = (frames_of(BOTH, clip, Question(view)) for view in ("A4C", "A2C"))
    assert four[0].spread_mm is not None
    assert 0.3 < four[0].spread_mm < 2.0
    assert two[0].spread_mm is None
    assert two[0].contour is not None
    assert (four[0].mask, two[0].mask) == (None, None)


def test_the_spread_of_equal_and_independent_points_is_theirs() -> None:
    contour = frames_of(BOTH, beating_clip(1), Question("A4C"))[0].contour
    assert isinstance(contour, Contour)
    covariance = np.diag(np.tile([9.0, 16.0], len(contour.points_xy_mm)))
    assert FrameAnswer(0, replace(contour, covariance=covariance)).spread_mm == pytest.approx(5.0)


def test_masks_need_no_spacing_and_looks_change_no_clear_mask() -> None:
    clip = replace(beating_clip(2), mm_per_pixel=None)
    asked = Question("A4C", wants_masks=True, wants_contours=False)
    one, five = (frames_of(BOTH, clip, replace(asked, num_looks=looks)) for looks in (1, 5))
    for single, several in zip(one, five, strict=True):
        assert single.mask is not None
        assert several.mask is not None
        assert np.array_equal(single.mask.mask.labels_HW, several.mask.mask.labels_HW)
        assert (single.contour, single.missing) == (None, None)


@pytest.mark.parametrize(
    ("segmenters", "question", "mm", "code"),
    [
        (BOTH, Question("A4C", wants_contours=False), (1.0, 1.0), Code.CONFIG_INVALID),
        (BOTH, Question("A4C", num_looks=3), (1.0, 1.0), Code.CONFIG_INVALID),
        (BOTH, Question("A4C"), None, Code.SPACING_MISSING),
        (BOTH, Question("A4C"), (1.0, float("nan")), Code.SPACING_MISSING),
        (BOTH, Question("PLAX"), (1.0, 1.0), Code.VIEW_UNKNOWN),
        (BOTH, Question("PLAX", wants_masks=True, wants_contours=False), None, Code.VIEW_UNKNOWN),
        (Segmenters(), Question("A4C"), (1.0, 1.0), Code.MODEL_UNKNOWN),
        (
            Segmenters(contours=BOTH.contours),
            Question("A4C", wants_masks=True),
            (1.0, 1.0),
            Code.MODEL_UNKNOWN,
        ),
    ],
)
def test_what_cannot_be_answered_is_refused(
    segmenters: Segmenters, question: Question, mm: tuple[float, float] | None, code: Code
) -> None:
    with pytest.raises(EchoFedError) as refused:
        choose_segmenters(segmenters, question, mm)
    assert refused.value.code is code


def test_only_the_models_that_answer_are_run() -> None:
    assert choose_segmenters(BOTH, Question("A4C"), (1.0, 1.0)) == Segmenters(None, BOTH.contours)
    assert choose_segmenters(BOTH, Question("A2C"), (1.0, 1.0)) == MASKS
    assert choose_segmenters(BOTH, ASKED, (1.0, 1.0)) == BOTH
    names = [
        part.id for part in answer_clip(BOTH, beating_clip(1), ASKED) if isinstance(part, ModelName)
    ]
    assert names == [MASK_CARD.id, CONTOUR_CARD.id]


def test_a_clip_of_blank_frames_is_refused() -> None:
    clip = replace(beating_clip(2), pixels_THW=np.zeros((2, 96, 96), np.uint8))
    with pytest.raises(EchoFedError) as refused:
        list(answer_clip(BOTH, clip, ASKED))
    assert refused.value.code is Code.SECTOR_EMPTY


@pytest.mark.parametrize(
    ("shape", "mm"), [((1, 20, 200), (1.0, 1.0)), ((1, 90, 90), (0.1, 1.0)), ((1, 200, 20), None)]
)
def test_a_strip_is_refused(shape: tuple[int, int, int], mm: tuple[float, float] | None) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    asked = Question("A4C", wants_masks=True, wants_contours=mm is not None)
    strip = Clip(pixels, mm, None, "", "")
    for answers in (answer_clip(BOTH, strip, asked), answer_frames(BOTH, [strip], asked)):
        with pytest.raises(EchoFedError) as refused:
            list(answers)
        assert refused.value.code is Code.SHAPE_MISMATCH


def test_frames_are_answered_before_the_clip_is_done() -> None:
    pieces: list[int] = []

    def counting(image, mm):  # type: ignore[no-untyped-def]
        pieces.append(len(image))
        assert BOTH.masks is not None
        return BOTH.masks._forward(image, mm)

    segmenter = type(BOTH.masks)(MASK_CARD, counting)  # type: ignore[misc,call-arg]
    answers = segment_frames(Segmenters(segmenter), beating_clip(20), ASKED)
    next(answers)
    assert pieces == [8]
    list(answers)
    assert pieces == [8, 8, 4]
