"""Frames as a segmenter wants them: square pixels, a set longer side, grey values z-scored."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from shared.echo.frame import MillimetresPerPixel
from shared.errors import Code, EchoFedError
from shared.shapes import expect

_WHITE = 255.0


def fitted_size(
    size_HW: Sequence[int], mm_per_pixel: MillimetresPerPixel | None, longest: int
) -> tuple[int, int]:
    """Rows and columns in proportion to the picture's mm, the larger of them ``longest``.

    Pixels of unknown spacing count as square.
    """
    row_mm, column_mm = mm_per_pixel or (1.0, 1.0)
    height_mm, width_mm = size_HW[0] * row_mm, size_HW[1] * column_mm
    scale = longest / max(height_mm, width_mm)
    return max(round(height_mm * scale), 1), max(round(width_mm * scale), 1)


def fitted_spacing(
    size_HW: Sequence[int], mm_per_pixel: MillimetresPerPixel, fitted_HW: Sequence[int]
) -> MillimetresPerPixel:
    """Spacing of the picture after it was resized; pictures share their corners."""
    return (
        mm_per_pixel[0] * size_HW[0] / fitted_HW[0],
        mm_per_pixel[1] * size_HW[1] / fitted_HW[1],
    )


def resized(pixels_THW: NDArray[np.uint8], fitted_HW: tuple[int, int]) -> NDArray[np.float32]:
    """Grey values of another size, bilinear with antialiasing, in 0..255."""
    expect(pixels_THW, "T H W")
    images_T1HW = torch.from_numpy(np.ascontiguousarray(pixels_THW))[:, None].float()
    out: NDArray[np.float32] = torch.nn.functional.interpolate(
        images_T1HW, size=fitted_HW, mode="bilinear", antialias=True
    )[:, 0].numpy()
    return out


def z_scored(grey_THW: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each frame with mean 0 and standard deviation 1.

    Raises:
        EchoFedError: SECTOR_EMPTY for a frame of one grey.
    """
    flat_TP = grey_THW.reshape(len(grey_THW), -1) / np.float32(_WHITE)
    mean_T1, spread_T1 = flat_TP.mean(axis=1, keepdims=True), flat_TP.std(axis=1, keepdims=True)
    if (spread_T1 < 1e-4).any():
        raise EchoFedError(
            Code.SECTOR_EMPTY,
            "a frame is of one grey, so there is nothing to segment",
            "leave empty frames out",
        )
    out: NDArray[np.float32] = ((flat_TP - mean_T1) / spread_T1).reshape(grey_THW.shape)
    return out
