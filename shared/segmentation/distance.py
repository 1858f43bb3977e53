"""Signed distance maps in mm, negative inside: of a mask and of a closed polygon."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from shared.echo.frame import MillimetresPerPixel
from shared.errors import Code, EchoFedError
from shared.shapes import expect

Array = NDArray[np.float64]


def distance_from_mask(region_HW: NDArray[np.bool_], mm_per_pixel: MillimetresPerPixel) -> Array:
    """Signed distance of every pixel's centre to the region's edge, (H, W) in mm.

    The edge is the points half way between neighbours in a row or column of which one is inside.
    They are the odd places of a grid twice as fine, on which the transform runs; so no half pixel
    has to be subtracted, and both sides are measured to the same edge.

    Raises:
        EchoFedError: PIXELS_MISSING for a region that is empty or the whole picture.
    """
    sizes = expect(region_HW, "H W")
    if region_HW.all() or not region_HW.any():
        raise EchoFedError(
            Code.PIXELS_MISSING,
            "a region that is empty or the whole picture has no edge to measure from",
            "leave the frame out of the distance maps",
        )
    is_off_edge = np.ones((2 * sizes["H"] - 1, 2 * sizes["W"] - 1), bool)
    is_off_edge[1::2, ::2] = region_HW[1:] == region_HW[:-1]
    is_off_edge[::2, 1::2] = region_HW[:, 1:] == region_HW[:, :-1]
    finer_mm = (mm_per_pixel[0] / 2, mm_per_pixel[1] / 2)
    distance: Array = distance_transform_edt(is_off_edge, sampling=finer_mm)[::2, ::2]
    return np.where(region_HW, -distance, distance)


def distance_from_polygon(
    points_xy_mm_P2: Array, size_HW: tuple[int, int], mm_per_pixel: MillimetresPerPixel
) -> Array:
    """Exact signed distance of every pixel's centre to a closed polygon, (H, W) in mm.

    The last point is joined to the first; where the line crosses itself, a pixel is inside if a
    ray from it crosses the line an odd number of times. The sense of rotation does not matter.

    Raises:
        EchoFedError: SHAPE_MISMATCH for anything but points (P, 2).
    """
    expect(points_xy_mm_P2, "P C", C=2)
    y = np.arange(size_HW[0])[:, None] * mm_per_pixel[0]
    x = np.arange(size_HW[1])[None, :] * mm_per_pixel[1]
    nearest = np.full(size_HW, np.inf)
    is_inside = np.zeros(size_HW, bool)
    for start, end in zip(points_xy_mm_P2, np.roll(points_xy_mm_P2, -1, axis=0), strict=True):
        along_x, along_y = end - start
        right, down = x - start[0], y - start[1]
        length = along_x**2 + along_y**2
        share = np.clip((right * along_x + down * along_y) / (length or 1.0), 0.0, 1.0)
        squared = (right - share * along_x) ** 2 + (down - share * along_y) ** 2
        np.minimum(nearest, squared, out=nearest)
        rows = np.flatnonzero((start[1] > y[:, 0]) != (end[1] > y[:, 0]))
        is_inside[rows] ^= x < start[0] + (y[rows] - start[1]) * along_x / (along_y or 1.0)
    signed: Array = np.where(is_inside, -1.0, 1.0) * np.sqrt(nearest)
    return signed
