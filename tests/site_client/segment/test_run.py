"""One or two cines become numbers of a known heart; what is missing is counted, not hidden."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from shared.echo.assessment import Caution
from shared.echo.frame import Clip
from shared.errors import Code, EchoFedError
from shared.segmentation.answer import Segmenters
from shared.testing.beating import EF, beating_clip, labels_of, reading_segmenters
from site_client.segment.cautions import WORDS
from site_client.segment.run import Answered, examine, gather, question_for, segment_here

MASKS = Segmenters(reading_segmenters().masks)


def answered(clip: Clip, view: str = "A4C", segmenters: Segmenters = MASKS) -> Answered:
    return gather(clip, view, segment_here(segmenters, clip, question_for(clip, view)))


def smaller(clip: Clip, scale: float) -> Clip:
    """The same beat of a heart of another size."""
    turns = 2 * np.pi * np.arange(len(clip.pixels_THW)) / len(clip.pixels_THW)
    scales = scale * (1 - 0.1 * (1 - np.cos(turns)))
    pixels_THW = np.stack([80 * labels_of(one) for one in scales]).astype(np.uint8)
    return replace(clip, pixels_THW=pixels_THW, key="smaller")


def test_one_view_gives_the_ejection_of_the_heart() -> None:
    found = examine([answered(beating_clip())])
    assert found.measurements["EF"].value == pytest.approx(EF, abs=4)
    assert "single_plane" in found.cautions
    (cine,) = found.cines
    assert cine.measurements == tuple(found.measurements.values())
    assert (cine.ed, cine.es) == (found.measurements["EF"].frames)
    assert cine.structures == ("lv", "myocardium", "la")
    assert "LV mass" in found.measurements


def test_two_views_are_measured_together() -> None:
    found = examine([answered(beating_clip(), "A4C"), answered(beating_clip(), "A2C")])
    assert set(found.measurements["EDV"].views) == {"A4C", "A2C"}
    assert found.measurements["EDV"].method.startswith("disks (biplane")
    assert "single_plane" not in found.cautions
    assert found.cines[0].measurements == found.cines[1].measurements
    assert [cine.view for cine in found.cines] == ["A4C", "A2C"]


def test_a_long_axis_that_one_view_misses_is_flagged() -> None:
    clip = beating_clip()
    found = examine([answered(clip, "A4C"), answered(smaller(clip, 0.8), "A2C")])
    assert "foreshortened" in found.cautions
    assert found.measurements["EDV"].flags == ("foreshortened",)


def test_without_spacing_there_are_masks_and_no_millimetres() -> None:
    found = examine([answered(replace(beating_clip(), mm_per_pixel=None))])
    (cine,) = found.cines
    assert all(mask is not None and mask.labels_HW.any() for mask in cine.masks)
    assert set(cine.contours) == {None}
    assert not found.measurements


def test_frames_without_a_heart_are_counted_and_the_others_answer() -> None:
    clip = beating_clip()
    pixels_THW = clip.pixels_THW.copy()
    pixels_THW[3] = 0
    answer = answered(replace(clip, pixels_THW=pixels_THW))
    assert answer.num_missing == 1
    assert answer.frames[3].missing is Code.SECTOR_EMPTY
    found = examine([answer])
    assert found.measurements["EF"].value == pytest.approx(EF, abs=4)
    assert found.cines[0].masks[3] is None


def test_a_cine_without_any_contour_stands_without_numbers() -> None:
    empty = replace(beating_clip(), pixels_THW=np.zeros((4, 96, 96), np.uint8))
    empty.pixels_THW[:, :40] = 80
    answer = answered(empty)
    found = examine([answer])
    assert answer.num_missing == 4
    assert found.fault is not None
    assert found.fault.code is Code.LANDMARKS_MISSING
    assert len(found.cines) == 1


def test_contours_of_their_own_network_are_taken() -> None:
    answer = answered(beating_clip(), segmenters=reading_segmenters())
    assert [model.id for model in answer.models] == ["north-unet-0", "north-contour-0"]
    assert all(frame.contour is not None and frame.mask is not None for frame in answer.frames)
    alone = answered(beating_clip(), segmenters=Segmenters(None, reading_segmenters().contours))
    assert all(frame.contour is not None and frame.mask is None for frame in alone.frames)


@pytest.mark.parametrize(
    ("clip", "view", "code"),
    [
        (beating_clip(), "A3C", Code.VIEW_UNKNOWN),
        (beating_clip(), "no such view", Code.VIEW_UNKNOWN),
        (
            replace(beating_clip(), pixels_THW=np.zeros((2, 96, 96), np.uint8)),
            "A4C",
            Code.SECTOR_EMPTY,
        ),
    ],
)
def test_what_no_segmenter_can_answer_is_refused(clip: Clip, view: str, code: Code) -> None:
    with pytest.raises(EchoFedError) as caught:
        answered(clip, view)
    assert caught.value.code is code


def test_an_answer_that_broke_off_is_none() -> None:
    clip = beating_clip()
    parts = list(segment_here(MASKS, clip, question_for(clip, "A4C")))
    with pytest.raises(EchoFedError) as caught:
        gather(clip, "A4C", parts[:-1])
    assert caught.value.code is Code.RESULT_MISSING


def test_every_caution_is_put_into_words() -> None:
    assert WORDS.keys() == set(get_args(Caution))
