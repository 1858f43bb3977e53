"""A beating cavity in closed form, and segmenters that read it off the picture by themselves."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from shared.echo.frame import Clip
from shared.echo.segmenter import SegmenterCard
from shared.segmentation.answer import Segmenters
from shared.segmentation.segmenter import Floats, Segmenter

SIDE = 96
RADIUS_MM, LENGTH_MM, SQUEEZE = 20.0, 45.0, 0.2
EF = 100 * (1 - (1 - SQUEEZE) ** 3)
"""Of half an ellipsoid that shrinks by ``SQUEEZE`` in all directions."""
_GREY = 80  # for each value of the label map
MASK_CARD = SegmenterCard(
    id="north-unet-0", site="north", datasets=("a",), dataset_hashes=("h",), origin="phantom",
    answers="masks", network="unet", options={"width": 8, "depth": 2}, image_size=SIDE,
    structures=("background", "lv", "myocardium", "la"), num_landmarks=0, views=("A2C", "A4C"),
    weights_sha256="0" * 64, parent="", seed=1, settings_hash="s", settings={}, metrics={},
    created="",
)  # fmt: skip
CONTOUR_CARD = replace(
    MASK_CARD,
    id="north-contour-0",
    answers="contours",
    network="contour_net",
    structures=("lv",),
    num_landmarks=7,
    views=("A4C",),
    weights_sha256="1" * 64,
)


def beating_clip(num_frames: int = 12) -> Clip:
    """One beat from end diastole; end systole is in the middle. A pixel is a millimetre."""
    turns = 2 * np.pi * np.arange(num_frames) / num_frames
    scales = 1 - SQUEEZE * (1 - np.cos(turns)) / 2
    pixels_THW = np.stack([_GREY * labels_of(scale) for scale in scales])
    return Clip(pixels_THW.astype(np.uint8), (1.0, 1.0), 80.0, "key-of-clip", "key-of-patient")


def labels_of(scale: float) -> NDArray[np.uint8]:
    """Cavity 1, myocardium 2, atrium 3; the base is a straight line below."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float64)
    y, x = y - 59.5, x - (SIDE - 1) / 2
    inner = np.hypot(x / (RADIUS_MM * scale), y / (LENGTH_MM * scale)) < 1
    outer = np.hypot(x / (RADIUS_MM * scale + 8), y / (LENGTH_MM * scale + 8)) < 1
    atrium = np.hypot(x, y) < 0.9 * RADIUS_MM * scale
    labels_HW = np.select([(y < 0) & inner, (y < 0) & outer, (y > 0) & atrium], [1, 2, 3], 0)
    return labels_HW.astype(np.uint8)


def reading_masks(image_N1HW: Floats, mm_per_pixel_N2: Floats) -> tuple[Floats, ...]:
    """Logits of the label maps that ``beating_clip`` shows, moved ones too."""
    logits_NSHW = np.zeros((len(image_N1HW), 4, *image_N1HW.shape[2:]), np.float32)
    for image_HW, logits_SHW in zip(image_N1HW[:, 0], logits_NSHW, strict=True):
        greys = np.unique(image_HW.round(3))
        values = np.abs(image_HW[None] - greys[:, None, None]).argmin(axis=0)
        for value, logits_HW in enumerate(logits_SHW):
            logits_HW[values == value] = 9.0
    return (logits_NSHW,)


def tracing_contours(image_N1HW: Floats, mm_per_pixel_N2: Floats) -> tuple[Floats, ...]:
    """Landmarks and distances of the diastolic cavity, whatever the picture shows."""
    turns, num = np.linspace(np.pi, 0, 7), len(image_N1HW)
    middle = (SIDE - 1) / 2
    points = np.stack(
        [middle + RADIUS_MM * np.cos(turns), 59.5 - LENGTH_MM * np.sin(turns)], axis=1
    )
    y, x = np.mgrid[: image_N1HW.shape[2], : image_N1HW.shape[3]]
    level = RADIUS_MM * (np.hypot((x - middle) / RADIUS_MM, (y - 59.5) / LENGTH_MM) - 1)
    told = (points, np.repeat(np.eye(2)[None], 7, axis=0), level)
    return tuple(np.repeat(part[None].astype(np.float32), num, axis=0) for part in told)


def reading_segmenters() -> Segmenters:
    """Both models, which know a beating clip by heart."""
    return Segmenters(
        Segmenter(MASK_CARD, reading_masks), Segmenter(CONTOUR_CARD, tracing_contours)
    )
