import numpy as np
import pytest
import torch
from torch import Tensor

from shared.echo.frame import Frame
from shared.echo.mask import STRUCTURES
from shared.errors import Code, EchoFedError
from shared.models.contour_net import ContourMaps, ContourNet
from shared.models.unet import UNet
from shared.phantom.anatomy import draw_heart
from shared.phantom.scanner import SCANNERS, render_clip
from shared.segmentation.predict import (
    FIVE_LOOKS,
    ONE_LOOK,
    doubt,
    mean_probabilities,
    predict_contours,
    predict_masks,
)

NAMES = ("background", "lv", "myocardium")


def images(num: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(num, 1, height, width, generator=generator, dtype=torch.float64)


def frames(num: int, height: int, width: int) -> list[Frame]:
    pixels = np.zeros((height, width), np.uint8)
    return [Frame(pixels, (0.5, 0.4), f"clip:{index}") for index in range(num)]


def pixelwise(image_N1HW: Tensor) -> Tensor:
    """A network that sees single pixels: it moves its answer along exactly."""
    return torch.cat([image_N1HW, -image_N1HW, 0 * image_N1HW + 0.3], dim=1)


def network() -> UNet:
    torch.manual_seed(0)
    model = UNet(3, width=8, depth=2).double()
    torch.nn.init.normal_(model.head.head.weight)
    return model


def test_looks_change_nothing_where_the_answer_moves_along() -> None:
    image = images(2, 21, 30)
    one = mean_probabilities(pixelwise, image, looks=ONE_LOOK)
    five = mean_probabilities(pixelwise, image, looks=FIVE_LOOKS)
    assert torch.equal(one, pixelwise(image).softmax(dim=1))
    torch.testing.assert_close(five, one, rtol=0, atol=1e-15)


def test_doubt_is_none_where_certain_and_one_where_all_are_equal() -> None:
    certain = torch.zeros(4, 2, 2)
    certain[1] = 1.0
    assert not doubt(certain).any()
    torch.testing.assert_close(doubt(torch.full((4, 2, 2), 0.25)), torch.ones(2, 2))
    assert not doubt(torch.ones(1, 2, 2)).any()


def test_looks_are_averaged_and_leave_at_least_the_doubt_of_each() -> None:
    image, model = images(1, 24, 20), network()
    with torch.no_grad():
        both = mean_probabilities(model, image, looks=[(0, 3), (3, 0)])[0]
        padded = [torch.nn.functional.pad(image, p, mode="replicate") for p in
                  ((6, 0, 3, 3), (3, 3, 6, 0))]  # fmt: skip
        first = model(padded[0])[0, :, 3:27, 6:26].softmax(dim=0)
        second = model(padded[1])[0, :, 6:30, 3:23].softmax(dim=0)
    torch.testing.assert_close(both, (first + second) / 2, rtol=0, atol=1e-12)
    assert (doubt(both) - (doubt(first) + doubt(second)) / 2).min() > -1e-12


def test_masks_are_of_their_frames() -> None:
    found = predict_masks(pixelwise, images(2, 20, 16), frames(2, 50, 32), names=NAMES)
    assert [one.mask.key for one in found] == ["clip:0", "clip:1"]
    for one in found:
        assert one.mask.labels_HW.shape == one.doubt_HW.shape == (50, 32)
        assert one.mask.mm_per_pixel == (0.5, 0.4)
        assert 0.0 <= one.doubt_HW.min() <= one.doubt_HW.max() <= 1.0 + 1e-6


def test_resized_mask_of_a_phantom_keeps_its_structures() -> None:
    rng = np.random.default_rng(2)
    scanner = SCANNERS["aurora"]
    clip = render_clip(draw_heart(rng), "A4C", scanner, num_frames=1, size_HW=(192, 192), rng=rng)
    truth = torch.from_numpy(clip.labels_THW.astype(np.int64))
    logits = 20.0 * torch.nn.functional.one_hot(truth, len(STRUCTURES)).permute(0, 3, 1, 2).float()
    small = torch.nn.functional.avg_pool2d(logits, 2)
    frame = Frame(clip.pixels_THW[0], clip.mm_per_pixel, "phantom:0")
    (found,) = predict_masks(lambda _: small, small[:, :1], [frame], names=STRUCTURES)
    for name in ("lv", "myocardium"):
        shown, true = found.mask.region(name), clip.labels_THW[0] == STRUCTURES.index(name)
        assert 2 * (shown & true).sum() / (shown.sum() + true.sum()) > 0.93
    is_edge = (clip.labels_THW[0][1:] != clip.labels_THW[0][:-1])[:, 1:]
    assert found.doubt_HW[1:, 1:][is_edge].mean() > 10 * found.doubt_HW[1:, 1:][~is_edge].mean()


@pytest.mark.parametrize(("num_frames", "names"), [(3, NAMES), (2, NAMES[:2])])
def test_counts_that_do_not_fit_are_refused(num_frames: int, names: tuple[str, ...]) -> None:
    with pytest.raises(EchoFedError) as caught:
        predict_masks(pixelwise, images(2, 8, 8), frames(num_frames, 8, 8), names=names)
    assert caught.value.code is Code.SHAPE_MISMATCH


FRAME_HW, FRAME_MM = (180, 150), (0.5, 0.6)
CENTRE, RADIUS = (45.0, 44.0), 20.0


def sees_a_circle(image_N1HW: Tensor, mm_per_pixel_N2: Tensor) -> ContourMaps:
    """Maps of a circle that stands at a place of the frame, by an image of any size of it."""
    num, _, height, width = image_N1HW.shape
    row_mm, column_mm = mm_per_pixel_N2[0].tolist()
    # the corner is half a pixel of the frame before the centre of its first pixel
    y = (torch.arange(height) + 0.5).double()[:, None] * row_mm - 0.5 * FRAME_MM[0]
    x = (torch.arange(width) + 0.5).double()[None, :] * column_mm - 0.5 * FRAME_MM[1]
    distance = torch.hypot(x - CENTRE[0], y - CENTRE[1]) - RADIUS
    turns = torch.linspace(0.75, 2.25, 7).double() * torch.pi
    own = torch.tensor([column_mm - FRAME_MM[1], row_mm - FRAME_MM[0]]).double() / 2
    points = torch.stack([turns.cos(), turns.sin()], dim=1) * (RADIUS + 1.0)
    points = points + torch.tensor(CENTRE).double() - own
    covariance = 4.0 * torch.eye(2).double().expand(num, 7, 2, 2)
    return ContourMaps(
        image_N1HW, points.expand(num, 7, 2), covariance, distance.expand(num, height, width)
    )


@pytest.mark.parametrize("size_HW", [(180, 150), (90, 75), (128, 128), (360, 150)])
def test_contour_is_where_the_frame_shows_it_by_an_image_of_any_size(
    size_HW: tuple[int, int],
) -> None:
    image = images(2, *size_HW)
    found = predict_contours(sees_a_circle, image, [FRAME_HW] * 2, [FRAME_MM] * 2)
    assert len(found) == 2
    for one in found:
        radii = np.hypot(*(one.points_xy_mm_P2 - CENTRE).T)
        assert np.abs(radii - RADIUS).max() < 0.01
        assert one.disagreement_mm == pytest.approx(1.0, abs=0.03)


def test_contours_of_an_untrained_network_have_their_points() -> None:
    torch.manual_seed(0)
    model = ContourNet(7, width=8, depth=2)
    found = predict_contours(
        model, images(2, 40, 32).float(), [(80, 64), (40, 32)], [(0.5, 0.5), (1.0, 1.0)],
        num_points=21,
    )  # fmt: skip
    for one in found:
        assert one.points_xy_mm_P2.shape == (21, 2)
        assert np.isfinite(one.points_xy_mm_P2).all()
        assert one.covariance_mm2.shape == (42, 42)


def test_contours_need_a_spacing_for_every_frame() -> None:
    with pytest.raises(EchoFedError) as caught:
        predict_contours(sees_a_circle, images(2, 8, 8), [(8, 8)] * 2, [(1.0, 1.0)])
    assert caught.value.code is Code.SHAPE_MISMATCH
