"""The two-headed contour network: landmarks as heat maps and a signed distance map, one decoder.

The representation is that of Gomez et al. 2022 (arXiv 2207.06330), of which only the abstract is
public; heads and readout are ours, from the sources named below. Points are (x, y) in mm from the
centre of the first pixel, x to the right and y down.
"""

from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from shared.models.unet import PixelHead, UNetTrunk
from shared.shapes import expect

_PIXELS = 16.0  # what an output of one stands for in the distance head; keeps its weights small


class ContourMaps(NamedTuple):
    """What the network says of N frames.

    Attributes:
        log_heat_NKHW: log-probability of each landmark's place; each map's sum is one.
        points_xy_mm_NK2: expected place of each landmark.
        covariance_mm2_NK22: covariance of that place.
        distance_mm_NHW: signed distance to the closed contour, negative inside.
    """

    log_heat_NKHW: Tensor
    points_xy_mm_NK2: Tensor
    covariance_mm2_NK22: Tensor
    distance_mm_NHW: Tensor


class ContourAnswer(NamedTuple):
    """What a contour is made of; see ``ContourMaps``."""

    points_xy_mm_NK2: Tensor
    covariance_mm2_NK22: Tensor
    distance_mm_NHW: Tensor


class ContourNet(nn.Module):
    """U-Net trunk with a heat map per landmark and a distance map.

    Distances are predicted in pixels and multiplied by the spacing, so that the same picture with
    twice the spacing has points and distances twice as large, whatever was learnt.

    Args:
        num_outputs: landmarks from base over apex to base, in order along the contour.
        in_chans: channels of the image.
        width, depth, patch: as in ``UNetTrunk``.
    """

    answers: ClassVar[Literal["contours"]] = "contours"

    def __init__(
        self,
        num_outputs: int = 7,
        in_chans: int = 1,
        *,
        width: int = 32,
        depth: int = 5,
        patch: int = 1,
    ) -> None:
        """Build trunk and heads."""
        super().__init__()
        self.trunk = UNetTrunk(in_chans, width=width, depth=depth, patch=patch)
        self.heat = PixelHead(self.trunk, num_outputs)
        self.distance = PixelHead(self.trunk, 1, scale=0.2)  # some 3 pixels

    def forward(self, image_NCHW: Tensor, mm_per_pixel_N2: Tensor) -> ContourMaps:
        """Maps of frames with their spacing of (rows, columns)."""
        expect(mm_per_pixel_N2, "N S", N=image_NCHW.shape[0], S=2)
        features_NDHW = self.trunk(image_NCHW)
        size_HW = (image_NCHW.shape[2], image_NCHW.shape[3])
        heat_NKHW = self.heat(features_NDHW, size_HW)
        log_heat_NKHW = heat_NKHW.flatten(2).log_softmax(dim=2).view_as(heat_NKHW)
        points, covariance = read_points(log_heat_NKHW, mm_per_pixel_N2)
        pixel_mm_N = mm_per_pixel_N2.prod(dim=1).sqrt()
        distance_mm_NHW = (
            self.distance(features_NDHW, size_HW)[:, 0] * (_PIXELS * pixel_mm_N)[:, None, None]
        )
        return ContourMaps(log_heat_NKHW, points, covariance, distance_mm_NHW)


def read_points(log_heat_NKHW: Tensor, mm_per_pixel_N2: Tensor) -> tuple[Tensor, Tensor]:
    """Expected place and its covariance under each heat map (DSNT), in mm.

    mu = sum h(x) x and Sigma = sum h(x) (x - mu)(x - mu)^T over the pixels' centres x.

    Returns:
        Points (N, K, 2) as (x, y), covariances (N, K, 2, 2).

    Reference: Nibali et al. 2018 (arXiv 1801.07372), in mm instead of [-1, 1].
    """
    heat_NKHW = log_heat_NKHW.exp()
    height, width = heat_NKHW.shape[-2:]
    rows_mm_NH, columns_mm_NW = axes_mm(height, width, mm_per_pixel_N2)
    across_NKW, down_NKH = heat_NKHW.sum(dim=2), heat_NKHW.sum(dim=3)
    x_NK = torch.einsum("nkw,nw->nk", across_NKW, columns_mm_NW)
    y_NK = torch.einsum("nkh,nh->nk", down_NKH, rows_mm_NH)
    aside_NKW = columns_mm_NW[:, None] - x_NK[..., None]
    below_NKH = rows_mm_NH[:, None] - y_NK[..., None]
    xx = (across_NKW * aside_NKW**2).sum(dim=2)
    yy = (down_NKH * below_NKH**2).sum(dim=2)
    xy = torch.einsum("nkhw,nkh,nkw->nk", heat_NKHW, below_NKH, aside_NKW)
    covariance = torch.stack([xx, xy, xy, yy], dim=-1).reshape(*xx.shape, 2, 2)
    return torch.stack([x_NK, y_NK], dim=-1), covariance


def axes_mm(height: int, width: int, mm_per_pixel_N2: Tensor) -> tuple[Tensor, Tensor]:
    """Places of the rows (N, H) and columns (N, W)."""
    rows = torch.arange(height, device=mm_per_pixel_N2.device, dtype=mm_per_pixel_N2.dtype)
    columns = torch.arange(width, device=mm_per_pixel_N2.device, dtype=mm_per_pixel_N2.dtype)
    return rows * mm_per_pixel_N2[:, :1], columns * mm_per_pixel_N2[:, 1:]
