"""Masks and contours from a network, at the size and in the millimetres of the frames themselves.

A mask is the mean over several looks, with how sure it is of each pixel. A look is the frame moved
by whole pixels. A network with strides does not move its answer along exactly; the mean over moves
that are no multiple of its stride is steadier than any single look (cycle spinning, Coifman and
Donoho 1995). Flips are no looks: a mirrored heart is another heart.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.echo.frame import Frame, MillimetresPerPixel
from shared.echo.mask import Mask
from shared.models.contour_net import ContourAnswer, ContourMaps
from shared.segmentation.contour import FusedContour, fuse_heads
from shared.shapes import expect

ONE_LOOK = ((0, 0),)
FIVE_LOOKS = ((0, 0), (3, 5), (5, -3), (-3, -5), (-5, 3))
"""Moves (down, right) in pixels; odd ones, so that no stride of two or more divides them."""


@dataclass(frozen=True, slots=True, eq=False)
class PredictedMask:
    """A mask with its doubt.

    Args:
        mask: the most probable structure of every pixel.
        doubt_HW: entropy of the structures' probabilities over its largest value, in [0, 1].
    """

    mask: Mask
    doubt_HW: NDArray[np.float32]


def predict_masks(
    network: Callable[[Tensor], Tensor],
    image_N1HW: Tensor,
    frames: Sequence[Frame],
    *,
    names: tuple[str, ...],
    looks: Sequence[tuple[int, int]] = ONE_LOOK,
) -> list[PredictedMask]:
    """Masks of the size and spacing of the frames.

    Args:
        network: normalised images -> logits (N, S, H, W) of the structures.
        image_N1HW: the frames as the network wants them: normalised, perhaps resized.
        frames: whose images they are.
        names: structures in the order of the logits.
        looks: moves (down, right) of the image; more than one is slower by as much.

    Raises:
        EchoFedError: SHAPE_MISMATCH where images are not as many as frames, or logits as names.
    """
    expect(image_N1HW, "N C H W", N=len(frames), C=1)
    with torch.inference_mode():
        probabilities_NSHW = mean_probabilities(network, image_N1HW, looks=looks)
    expect(probabilities_NSHW, "N S H W", S=len(names))
    return [
        _mask_of(probabilities_SHW, frame, names)
        for probabilities_SHW, frame in zip(probabilities_NSHW, frames, strict=True)
    ]


def predict_contours(
    network: Callable[[Tensor, Tensor], ContourMaps | ContourAnswer],
    image_N1HW: Tensor,
    sizes_HW: Sequence[tuple[int, int]],
    mm_per_pixel: Sequence[MillimetresPerPixel],
    *,
    num_points: int = 41,
) -> list[FusedContour]:
    """Contours in mm from the centre of each frame's own first pixel.

    Args:
        network: normalised images and their spacing (N, 2) -> points and distances.
        image_N1HW: the frames as the network wants them: normalised, perhaps resized.
        sizes_HW: of the frames before they were resized.
        mm_per_pixel: spacing of (rows, columns) of those frames.
        num_points: of each contour.

    Raises:
        EchoFedError: SHAPE_MISMATCH where images are not as many as sizes and spacings.
    """
    expect(image_N1HW, "N C H W", N=len(sizes_HW), C=1)
    frame_mm_N2 = np.array(mm_per_pixel, np.float64)
    expect(frame_mm_N2, "N S", N=len(sizes_HW), S=2)
    image_mm_N2 = frame_mm_N2 * np.array(sizes_HW) / np.array(image_N1HW.shape[-2:])
    with torch.inference_mode():
        maps = network(image_N1HW, torch.from_numpy(image_mm_N2).to(image_N1HW))
    points, covariance, distance = (
        part.double().cpu().numpy()
        for part in (maps.points_xy_mm_NK2, maps.covariance_mm2_NK22, maps.distance_mm_NHW)
    )
    fused = [
        fuse_heads(points[n], covariance[n], distance[n], (down, right), num_points=num_points)
        for n, (down, right) in enumerate(image_mm_N2.tolist())
    ]
    # pictures of one scene share their corner, not the centre of their first pixel
    shifts_xy_N2 = 0.5 * (image_mm_N2 - frame_mm_N2)[:, ::-1]
    return [
        replace(one, points_xy_mm_P2=one.points_xy_mm_P2 + shift_xy)
        for one, shift_xy in zip(fused, shifts_xy_N2, strict=True)
    ]


def mean_probabilities(
    network: Callable[[Tensor], Tensor], image_N1HW: Tensor, *, looks: Sequence[tuple[int, int]]
) -> Tensor:
    """Probabilities (N, S, H, W), the mean over the looks.

    The image stands in a larger one whose edge it repeats, and moves in that; so nothing of it
    leaves the picture.
    """
    height, width = image_N1HW.shape[-2:]
    margin = max(max(abs(down), abs(right)) for down, right in looks)
    total = None
    for down, right in looks:
        top, left = margin + down, margin + right
        sides = (left, 2 * margin - left, top, 2 * margin - top)
        canvas = torch.nn.functional.pad(image_N1HW, sides, mode="replicate")
        seen = network(canvas)[..., top : top + height, left : left + width].softmax(dim=1)
        total = seen if total is None else total + seen
    assert total is not None
    return total / len(looks)


def doubt(probabilities_SHW: Tensor) -> Tensor:
    """Entropy over its largest value (H, W): 0 where one structure is certain, 1 for equal ones.

    Of the mean over looks it holds both what each look leaves open and where the looks differ.
    """
    # entr is not vectorised and takes twice as long
    logs_SHW = probabilities_SHW.clamp_min(torch.finfo(probabilities_SHW.dtype).tiny).log()
    entropy_HW = -(probabilities_SHW * logs_SHW).sum(dim=0)
    scaled: Tensor = entropy_HW / np.log(max(len(probabilities_SHW), 2))
    return scaled


def _mask_of(probabilities_SHW: Tensor, frame: Frame, names: tuple[str, ...]) -> PredictedMask:
    """Mask at the frame's size; probabilities are resized, so that edges are not jagged."""
    at_size_SHW = probabilities_SHW
    if at_size_SHW.shape[1:] != frame.pixels_HW.shape:
        at_size_SHW = torch.nn.functional.interpolate(
            probabilities_SHW[None], size=frame.pixels_HW.shape, mode="bilinear"
        )[0]
    # max says where as argmax does, in a tenth of its time
    labels_HW = at_size_SHW.max(dim=0).indices.to(torch.uint8).cpu().numpy()
    mask = Mask(labels_HW, names, frame.mm_per_pixel, frame.key)
    return PredictedMask(mask, doubt(at_size_SHW).float().cpu().numpy())
