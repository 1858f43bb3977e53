import numpy as np
import pytest
import torch
from torch import Tensor

from shared.echo.frame import Frame
from shared.echo.mask import STRUCTURES
from shared.errors import Code, EchoFedError
from shared.models.unet import UNet
from shared.phantom.anatomy import draw_heart
from shared.phantom.scanner import SCANNERS, render_clip
from shared.segmentation.predict import (
    FIVE_LOOKS,
    ONE_LOOK,
    doubt,
    mean_probabilities,
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
    torch.nn.init.normal_(model.head.weight)
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
