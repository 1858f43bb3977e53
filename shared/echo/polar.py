"""Scan conversion both ways: pixels of a fan to its beams and back, bilinear, in float64."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from shared.echo.sector import Fan


def to_polar(
    image_HW: NDArray[np.generic], fan: Fan, num_samples: int, num_lines: int
) -> NDArray[np.float64]:
    """Sample a picture along the beams of a fan.

    Args:
        image_HW: the picture.
        fan: where it lies.
        num_samples: from the near to the far radius, both included.
        num_lines: from the left to the right side, both included.

    Returns:
        (num_samples, num_lines); a sample off the picture is 0.
    """
    radius = np.linspace(fan.radius_min_px, fan.radius_max_px, num_samples)[:, None]
    angle = np.radians(np.linspace(fan.angle_min_deg, fan.angle_max_deg, num_lines))
    rows = fan.apex_rc[0] + radius * np.cos(angle)
    columns = fan.apex_rc[1] + radius * np.sin(angle)
    return _bilinear(image_HW, rows, columns)


def to_cartesian(
    beams_SL: NDArray[np.generic], fan: Fan, size_HW: tuple[int, int]
) -> NDArray[np.float64]:
    """Draw beams into a picture.

    Args:
        beams_SL: samples by lines as ``to_polar`` gives them.
        fan: where to draw them.
        size_HW: of the picture.

    Returns:
        The picture, 0 outside the fan.
    """
    inside_HW = fan.mask(size_HW)
    rows, columns = np.nonzero(inside_HW)
    down, right = rows - fan.apex_rc[0], columns - fan.apex_rc[1]
    depth = (np.hypot(down, right) - fan.radius_min_px) / (fan.radius_max_px - fan.radius_min_px)
    angle = np.degrees(np.arctan2(right, down))
    aside = (angle - fan.angle_min_deg) / (fan.angle_max_deg - fan.angle_min_deg)
    num_samples, num_lines = beams_SL.shape
    picture = np.zeros(size_HW)
    picture[inside_HW] = _bilinear(beams_SL, depth * (num_samples - 1), aside * (num_lines - 1))
    return picture


def _bilinear(
    values: NDArray[np.generic], rows: NDArray[np.float64], columns: NDArray[np.float64]
) -> NDArray[np.float64]:
    found: NDArray[np.float64] = map_coordinates(
        values.astype(np.float64), [rows, columns], order=1, mode="grid-constant"
    )
    return found
