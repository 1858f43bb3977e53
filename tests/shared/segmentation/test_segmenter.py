"""A segmenter answers in the clip's own pixels and millimetres, whatever the network reads."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from shared.echo.frame import Clip
from shared.echo.segmenter import SegmenterCard
from shared.errors import Code, EchoFedError
from shared.models.backbone import pack_tensors
from shared.segmentation.fit import fitted_size, fitted_spacing, resized, z_scored
from shared.segmentation.segmenter import Floats, Segmenter, build_forward, build_network

CARD = SegmenterCard(
    id="x", site="north", datasets=("a",), dataset_hashes=("h",), origin="phantom",
    answers="masks", network="unet", options={"width": 8, "depth": 2, "patch": 2}, image_size=48,
    structures=("background", "lv"), num_landmarks=0, views=("A4C",), weights_sha256="",
    parent="", seed=1, settings_hash="s", settings={}, metrics={}, created="",
)  # fmt: skip
OUTLINE = replace(
    CARD, answers="contours", network="contour_net", structures=("lv",), num_landmarks=7
)


def clip(seed: int, size_THW: tuple[int, int, int], mm: tuple[float, float] | None) -> Clip:
    pixels = np.random.default_rng(seed).integers(0, 256, size_THW).astype(np.uint8)
    return Clip(pixels, mm, None, "k", "p")


def weights(card: SegmenterCard, seed: int) -> bytes:
    torch.manual_seed(seed)
    return pack_tensors(build_network(card).state_dict())


def bright(image_N1HW: Floats, mm_per_pixel_N2: Floats) -> tuple[Floats, ...]:
    """Cavity where the picture is brighter than its mean."""
    return (np.concatenate([-image_N1HW, image_N1HW], axis=1),)


@pytest.mark.parametrize("mm", [None, (0.5, 0.5), (0.2, 0.6)])
def test_a_mask_lies_where_the_picture_is(mm: tuple[float, float] | None) -> None:
    pixels = np.full((3, 60, 80), 20, np.uint8)
    pixels[:, 15:40, 30:70] = 200
    found = Segmenter(CARD, bright).masks(Clip(pixels, mm, None, "k", "p"), view="A4C")
    assert len(found) == 3
    for one in found:
        assert one.mask.mm_per_pixel == mm
        wrong = one.mask.region("lv") != (pixels[0] == 200)
        assert not wrong[17:38, 33:67].any()
        assert not wrong[:13].any()
        assert wrong.mean() < 0.06


def test_pixels_become_square_in_mm_and_the_longer_side_is_set() -> None:
    size_HW, mm = (600, 400), (0.154, 0.308)
    fitted_HW = fitted_size(size_HW, mm, 256)
    assert max(fitted_HW) == 256
    down, right = fitted_spacing(size_HW, mm, fitted_HW)
    assert abs(down / right - 1) < 0.005
    assert fitted_HW[0] * down == pytest.approx(600 * 0.154)
    assert fitted_size(size_HW, None, 128) == (128, 85)


def test_a_frame_of_the_right_size_is_not_changed_by_resizing() -> None:
    pixels = clip(0, (2, 30, 40), None).pixels_THW
    assert np.array_equal(resized(pixels, (30, 40)), pixels.astype(np.float32))


def test_grey_values_have_mean_zero_and_deviation_one() -> None:
    scored = z_scored(clip(1, (3, 20, 30), None).pixels_THW.astype(np.float32))
    assert np.allclose(scored.mean(axis=(1, 2)), 0, atol=1e-5)
    assert np.allclose(scored.std(axis=(1, 2)), 1, atol=1e-5)


def test_a_black_frame_is_refused() -> None:
    black = Clip(np.zeros((1, 20, 20), np.uint8), None, None, "k", "p")
    with pytest.raises(EchoFedError) as refused:
        Segmenter(CARD, bright).masks(black, view="A4C")
    assert refused.value.code is Code.SECTOR_EMPTY


def test_frames_do_not_depend_on_their_neighbours(seed: int) -> None:
    forward = build_forward(CARD, weights(CARD, seed))
    whole = clip(seed, (11, 40, 30), (0.5, 0.5))
    last = replace(whole, pixels_THW=whole.pixels_THW[-1:])
    together = Segmenter(CARD, forward).masks(whole, view="A4C")
    (alone,) = Segmenter(CARD, forward).masks(last, view="A4C")
    assert len(together) == 11
    assert np.allclose(together[-1].doubt_HW, alone.doubt_HW, atol=1e-5)


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_a_contour_grows_with_the_spacing(scale: float) -> None:
    forward = build_forward(OUTLINE, weights(OUTLINE, 3))
    points = forward(
        np.random.default_rng(0).normal(size=(1, 1, 48, 48)).astype(np.float32),
        np.full((1, 2), 1.0, np.float32),
    )
    larger = forward(
        np.random.default_rng(0).normal(size=(1, 1, 48, 48)).astype(np.float32),
        np.full((1, 2), scale, np.float32),
    )
    for one, other, power in zip(points, larger, (1, 2, 1), strict=True):
        assert np.allclose(other, one * scale**power, rtol=1e-4, atol=1e-3)


def ellipse(image_N1HW: Floats, mm_per_pixel_N2: Floats) -> tuple[Floats, ...]:
    """A half ellipse of 20 by 60 mm from (25, 70) over the apex (45, 10) to (65, 70)."""
    turns = np.linspace(np.pi, 0, 7)
    points = np.stack([45 + 20 * np.cos(turns), 70 - 60 * np.sin(turns)], axis=1)
    row_mm, column_mm = mm_per_pixel_N2[0]
    rows, columns = image_N1HW.shape[2:]
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    y, x = (y * row_mm - 70) / 60, (x * column_mm - 45) / 20
    level = 20 * (np.hypot(x, y) - 1)
    num = len(image_N1HW)
    return (
        np.repeat(points[None].astype(np.float32), num, 0),
        np.repeat(np.eye(2, dtype=np.float32)[None, None], 7, 1).repeat(num, 0),
        np.repeat(level[None].astype(np.float32), num, 0),
    )


def test_a_contour_is_told_in_mm_of_the_clip() -> None:
    found = Segmenter(OUTLINE, ellipse).contours(clip(0, (9, 90, 90), (1.0, 1.0)), view="A4C")
    assert [contour.frame for contour in found if contour] == list(range(9))
    for contour in found:
        assert contour is not None
        # the network's picture is of 48 pixels a side: its pixels' centres begin 0.44 mm later
        x, y = (contour.points_xy_mm - 0.4375).T
        assert np.abs(np.hypot((x - 45) / 20, (y - 70) / 60) - 1).max() < 0.02
        assert contour.covariance is not None


def test_a_contour_needs_a_spacing() -> None:
    with pytest.raises(EchoFedError) as refused:
        Segmenter(OUTLINE, ellipse).contours(clip(0, (1, 40, 40), None), view="A4C")
    assert refused.value.code is Code.SPACING_MISSING


def test_a_frame_without_contour_is_none_and_the_others_stay() -> None:
    def broken(image_N1HW: Floats, mm_per_pixel_N2: Floats) -> tuple[Floats, ...]:
        points, covariance, level = ellipse(image_N1HW, mm_per_pixel_N2)
        points[image_N1HW[:, 0, 0, 0] > 0] = np.nan
        return points, covariance, level

    pixels = clip(0, (2, 90, 90), None).pixels_THW
    pixels[0, :4, :4], pixels[1, :4, :4] = 255, 0
    frames = Clip(pixels, (1.0, 1.0), None, "k", "p")
    found = Segmenter(OUTLINE, broken).contours(frames, view="A4C")
    assert [contour is None for contour in found] == [True, False]


def test_other_views_and_other_answers_are_refused() -> None:
    asked = clip(0, (1, 40, 40), (1.0, 1.0))
    with pytest.raises(EchoFedError) as unknown:
        Segmenter(CARD, bright).masks(asked, view="PLAX")
    with pytest.raises(EchoFedError) as other:
        Segmenter(CARD, bright).contours(asked, view="A4C")
    assert (unknown.value.code, other.value.code) == (Code.VIEW_UNKNOWN, Code.NAME_UNKNOWN)


def test_weights_of_another_network_are_refused() -> None:
    with pytest.raises(EchoFedError) as refused:
        build_forward(replace(CARD, options={"width": 16, "depth": 2}), weights(CARD, 0))
    assert refused.value.code is Code.CHECKPOINT_CORRUPT
