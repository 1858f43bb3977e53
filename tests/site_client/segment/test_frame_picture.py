from dataclasses import replace

import numpy as np
import pytest

from shared.echo.frame import Clip
from shared.echo.mask import Mask
from shared.testing.contours import half_ellipse, moved
from site_client.segment.cine import ModelName, SegmentedCine
from site_client.segment.frame_picture import draw_frame, scale_of
from site_client.segment.style import CONTOUR, STRUCTURE_COLOURS

HEIGHT = 400
MODEL = (ModelName("model", "0" * 64),)


def black(mm_per_pixel: tuple[float, float] | None = (0.5, 0.5)) -> SegmentedCine:
    """One black frame of 100 x 120 mm with nothing on it."""
    clip = Clip(np.zeros((1, 200, 240), np.uint8), mm_per_pixel, None, "key", "patient")
    return SegmentedCine(clip, "A4C", (None,), (None,), (), MODEL)


def coloured(picture: np.ndarray, colour: tuple[int, int, int], tolerance: int = 30) -> np.ndarray:
    return (abs(picture.astype(int) - colour) <= tolerance).all(axis=-1)


@pytest.mark.parametrize("mm_per_pixel", [(0.5, 0.5), (0.5, 1.0), (0.8, 0.4), None])
def test_a_mm_is_as_long_across_as_down(mm_per_pixel: tuple[float, float] | None) -> None:
    scale = scale_of(black(mm_per_pixel), height=HEIGHT)
    row_mm, column_mm = mm_per_pixel or (1.0, 1.0)
    assert scale.width / (240 * column_mm) == pytest.approx(scale.height / (200 * row_mm), rel=0.01)


def test_the_contour_is_drawn_where_its_points_are() -> None:
    contour = moved(half_ellipse(20.0, 60.0, num_points=81), shift_mm=(55.0, 75.0))
    segmented = replace(black(), contours=(contour,))
    picture = np.asarray(draw_frame(segmented, 0, height=HEIGHT))
    scale = scale_of(segmented, height=HEIGHT)
    places = scale.xy(contour.points_xy_mm / 0.5).round().astype(int)
    wall = [place for place in range(6, 75) if abs(place - contour.apex) > 6]
    assert coloured(picture[places[wall, 1], places[wall, 0]], CONTOUR).mean() > 0.9
    middle = scale.xy(np.array([[110.0, 100.0]])).round().astype(int)[0]
    assert not coloured(picture[middle[1], middle[0]], CONTOUR)


def test_a_structure_has_its_colour_inside_and_none_outside() -> None:
    labels_HW = np.zeros((200, 240), np.uint8)
    labels_HW[50:150, 60:160] = 1
    mask = Mask(labels_HW, ("background", "la"), (0.5, 0.5), "key:0")
    segmented = replace(black(None), masks=(mask,))
    picture = np.asarray(draw_frame(segmented, 0, height=HEIGHT)).astype(float)
    colour = np.array(STRUCTURE_COLOURS["la"])
    inside = picture[110:290, 130:310].reshape(-1, 3)
    # on black, translucent colour is the colour darkened, of one hue
    share = inside @ colour / (colour @ colour)
    np.testing.assert_allclose(inside, share[:, None] * colour, atol=1.5)
    assert 0.2 < share.min() <= share.max() < 0.4
    assert not picture[:90].any()
    assert not picture[:, 330:].any()


def test_the_bar_is_as_long_as_it_says() -> None:
    picture = np.asarray(draw_frame(black(), 0, height=HEIGHT))
    row = coloured(picture, (242, 245, 247), 10)[HEIGHT - 17]
    # 120 mm are 480 px wide; a fifth of that holds 20 mm
    assert row.sum() == pytest.approx(20 * 480 / 120, abs=2)


def test_without_a_spacing_there_is_no_bar() -> None:
    assert not np.asarray(draw_frame(black(None), 0, height=HEIGHT)).any()


def test_doubt_is_shown_when_it_is_asked_for(segmented: SegmentedCine) -> None:
    plain, doubted = (
        np.asarray(draw_frame(segmented, 0, height=HEIGHT, shows_doubt=shown)).astype(int)
        for shown in (False, True)
    )
    assert (doubted - plain)[200, 200].min() > 20
    assert not (doubted - plain)[:20, 500:].any()
