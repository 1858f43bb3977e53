"""A plain ventricle in an apical picture, with its exact labels and landmarks."""

import numpy as np
from numpy.typing import NDArray

from shared.echo.annotation import Annotation

STRUCTURES = ("background", "lv", "myocardium", "la")
_GREY = np.array([40.0, 20.0, 190.0, 60.0])  # of each structure


def draw_ventricle(
    generator: np.random.Generator, size_HW: tuple[int, int] = (64, 56), *, squeeze: float = 1.0
) -> tuple[NDArray[np.uint8], Annotation]:
    """Half an ellipse of blood in a wall, with an atrium below; base and apex vary.

    Args:
        generator: of the place, the size and the speckle.
        size_HW: rows and columns.
        squeeze: factor of the cavity's half axes.

    Returns:
        Grey levels (H, W), and the annotation of that one frame.
    """
    height, width = size_HW
    base_y, middle_x = height * generator.uniform(0.62, 0.68), width * generator.uniform(0.45, 0.55)
    long_px = squeeze * height * generator.uniform(0.38, 0.48)
    half_px = squeeze * width * generator.uniform(0.16, 0.22)
    wall_px = 0.08 * height
    y, x = np.mgrid[:height, :width].astype(np.float64)
    up, aside = base_y - y, x - middle_x
    inner = np.hypot(aside / half_px, up / long_px)
    outer = np.hypot(aside / (half_px + wall_px), up / (long_px + wall_px))
    atrium = np.hypot(aside / (1.1 * half_px), (y - base_y - 0.13 * height) / (0.13 * height))
    labels_HW = np.zeros(size_HW, np.uint8)
    labels_HW[atrium < 1] = 3
    labels_HW[(up >= 0) & (outer < 1)] = 2
    labels_HW[(up >= 0) & (inner < 1)] = 1
    grey_HW = _GREY[labels_HW] + generator.normal(0, 12, size_HW)
    landmarks = [
        (middle_x - half_px, base_y),
        (middle_x, base_y - long_px),
        (middle_x + half_px, base_y),
    ]
    annotation = Annotation((0,), labels_HW[None], STRUCTURES, np.array(landmarks)[None])
    return grey_HW.clip(0, 255).astype(np.uint8), annotation
