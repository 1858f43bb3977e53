from dataclasses import replace

import numpy as np
import pytest

from shared.errors import Code, EchoFedError
from shared.testing.contours import half_ellipse
from site_client.segment.cine import SegmentedCine, contour_xy_px


def test_points_in_pixels_and_in_mm_agree_with_the_spacing() -> None:
    contour = replace(half_ellipse(num_points=41), mm_per_pixel=(0.4, 0.8))
    points_xy_px = contour_xy_px(contour)
    np.testing.assert_allclose(points_xy_px * [0.8, 0.4], contour.points_xy_mm, atol=1e-12)


@pytest.mark.parametrize("part", ["masks", "contours", "doubts_T"])
def test_parts_that_are_not_as_many_as_the_frames_are_refused(
    segmented: SegmentedCine, part: str
) -> None:
    with pytest.raises(EchoFedError) as error:
        replace(segmented, **{part: getattr(segmented, part)[1:]})
    assert error.value.code == Code.SHAPE_MISMATCH


def test_a_mask_of_another_size_is_refused(segmented: SegmentedCine) -> None:
    first = segmented.masks[0]
    assert first is not None
    small = replace(first, labels_HW=first.labels_HW[1:])
    with pytest.raises(EchoFedError) as error:
        replace(segmented, masks=(small, *segmented.masks[1:]))
    assert error.value.code == Code.SHAPE_MISMATCH


@pytest.mark.parametrize("frame", [-1, 8])
def test_an_instant_outside_the_cine_is_refused(segmented: SegmentedCine, frame: int) -> None:
    with pytest.raises(EchoFedError) as error:
        replace(segmented, es=frame)
    assert error.value.code == Code.FRAMES_MISSING
