"""One frame as a picture: tissue in grey, structures in translucent colour, the contour on top."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from shared.echo.contour import Contour
from shared.echo.frame import MillimetresPerPixel
from shared.echo.mask import Mask
from site_client.segment.cine import Doubt, SegmentedCine, contour_xy_px
from site_client.segment.style import (
    BACK,
    CONTOUR,
    DOUBT,
    INK,
    STRUCTURE_COLOURS,
    SUPERSAMPLING,
    Rgb,
    font,
)

_FILL = 0.30  # opacity of a structure
_EDGE = 0.85  # opacity of its rim
_BLUR_PX = 1.6  # a rim of two pixels
_BARS_MM = (5, 10, 20, 50, 100)
_BAR_SHARE = 0.22  # of the picture's width, at most
_MARK_PX = 6.0

Canvas = NDArray[np.float32]
Plane = NDArray[np.floating[Any]]
Window = tuple[int, int, int, int]
"""Left, top, right and bottom in a picture."""


@dataclass(frozen=True, slots=True)
class Scale:
    """From pixels of a frame to pixels of its picture; a mm is as long across as down."""

    width: int
    height: int
    columns: int
    rows: int

    def xy(self, points_xy_px: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points from the centre of the first pixel -> from the corner of the picture."""
        factors = (self.width / self.columns, self.height / self.rows)
        placed: NDArray[np.float64] = (points_xy_px + 0.5) * factors
        return placed


def scale_of(segmented: SegmentedCine, *, height: int) -> Scale:
    """The scale of all pictures of a cine; without a spacing pixels count as square."""
    rows, columns = segmented.clip.pixels_THW.shape[1:]
    row_mm, column_mm = segmented.clip.mm_per_pixel or (1.0, 1.0)
    return Scale(round(height * columns * column_mm / (rows * row_mm)), height, columns, rows)


def draw_frame(
    segmented: SegmentedCine, frame: int, *, height: int, shows_doubt: bool = False
) -> Image.Image:
    """The picture of one frame of a cine, RGB, of the height given."""
    scale = scale_of(segmented, height=height)
    grey = Image.fromarray(segmented.clip.pixels_THW[frame])
    grey = grey.resize((scale.width, scale.height), Image.Resampling.BICUBIC)
    canvas_HW3 = np.repeat(np.asarray(grey, np.float32)[..., None], 3, axis=2)
    mask, contour = segmented.masks[frame], segmented.contours[frame]
    doubt_HW = segmented.doubts_T[frame] if shows_doubt and segmented.doubts_T else None
    if mask is not None:
        canvas_HW3 = _with_structures(canvas_HW3, mask, scale)
    if doubt_HW is not None:
        canvas_HW3 = _with_doubt(canvas_HW3, doubt_HW, scale)
    if contour is not None:
        canvas_HW3 = _with_contour(canvas_HW3, contour, scale)
    picture = Image.fromarray(canvas_HW3.round().clip(0, 255).astype(np.uint8))
    if segmented.clip.mm_per_pixel is not None:
        _draw_bar(picture, segmented.clip.mm_per_pixel, scale)
    return picture


def _with_structures(canvas_HW3: Canvas, mask: Mask, scale: Scale) -> Canvas:
    for name in mask.names[1:]:
        region_HW = mask.region(name)
        rows, columns = np.nonzero(region_HW)
        if not len(rows):
            continue
        window = _window(np.stack([columns, rows], axis=1).astype(np.float64), scale, margin=12)
        inside_HW = _smooth(region_HW.astype(np.float32), scale, window)
        # from 0 to 1 within a pixel and a half: no stairs, no veil
        fill_HW = ((inside_HW - 0.5) * 2.5 + 0.5).clip(0, 1)
        rim_HW = (1 - abs(inside_HW - 0.5) / 0.35).clip(0, 1)
        opacity_HW = np.maximum(_FILL * fill_HW, _EDGE * rim_HW)
        _blend(canvas_HW3, STRUCTURE_COLOURS[name], opacity_HW, window)
    return canvas_HW3


def _with_doubt(canvas_HW3: Canvas, doubt_HW: Doubt, scale: Scale) -> Canvas:
    """White where the network was unsure."""
    window = (0, 0, scale.width, scale.height)
    _blend(canvas_HW3, DOUBT, 0.75 * _smooth(doubt_HW, scale, window).clip(0, 1), window)
    return canvas_HW3


def _with_contour(canvas_HW3: Canvas, contour: Contour, scale: Scale) -> Canvas:
    """The line with a dark hem, circles at the base points, a triangle at the apex."""
    points_xy_px = contour_xy_px(contour)
    window = _window(points_xy_px, scale, margin=16)
    points = (scale.xy(points_xy_px) - window[:2]) * SUPERSAMPLING
    for colour, wider, opacity in ((BACK, 1.5, 0.6), (CONTOUR, 0.0, 1.0)):
        drawn_HW = _contour_layer(points, contour.apex, window, wider=wider)
        _blend(canvas_HW3, colour, opacity * drawn_HW, window)
    return canvas_HW3


def _contour_layer(
    points_P2: NDArray[np.float64], apex: int, window: Window, *, wider: float
) -> Plane:
    """Line, base line and marks in [0, 1]; points are those of a finer picture of the window."""
    fine = SUPERSAMPLING
    size = ((window[2] - window[0]) * fine, (window[3] - window[1]) * fine)
    layer = Image.new("L", size)
    pen = ImageDraw.Draw(layer)
    points = [tuple(point) for point in points_P2.tolist()]
    pen.line(points, fill=255, width=round((2.2 + 2 * wider) * fine), joint="curve")
    _dash(pen, points_P2[[-1, 0]], width=round((1.4 + 2 * wider) * fine))
    radius = (_MARK_PX + wider) * fine
    for x, y in (points[0], points[-1]):
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    x, y = points[apex]
    half = 1.5 * radius
    pen.polygon([(x, y - half), (x - half, y + 0.8 * half), (x + half, y + 0.8 * half)], fill=255)
    return np.asarray(layer.reduce(fine), np.float32) / 255


def _dash(pen: ImageDraw.ImageDraw, ends_22: NDArray[np.float64], *, width: int) -> None:
    """A dashed line; the base line closes the contour and is no wall."""
    start, way = ends_22[0], ends_22[1] - ends_22[0]
    num = max(1, round(float(np.hypot(*way)) / (12 * SUPERSAMPLING)))
    for place in range(num):
        dash = [tuple(start + way * share / num) for share in (place + 0.2, place + 0.8)]
        pen.line(dash, fill=255, width=width)


def _window(points_xy_px: NDArray[np.float64], scale: Scale, *, margin: int) -> Window:
    """The part of the picture that holds some points of the frame, with a margin."""
    placed = scale.xy(points_xy_px)
    (left, top), (right, bottom) = np.floor(placed.min(0)), np.ceil(placed.max(0))
    reach = margin + scale.height // scale.rows
    return (
        max(0, int(left) - reach),
        max(0, int(top) - reach),
        min(scale.width, int(right) + reach),
        min(scale.height, int(bottom) + reach),
    )


def _smooth(plane_HW: Plane, scale: Scale, window: Window) -> Plane:
    """A part of a plane of the frame's pixels at the size of its picture, without stairs."""
    left, top, right, bottom = window
    across, down = scale.columns / scale.width, scale.rows / scale.height
    large = Image.fromarray(plane_HW * 255.0).resize(
        (right - left, bottom - top),
        Image.Resampling.BILINEAR,
        box=(left * across, top * down, right * across, bottom * down),
    )
    # each pixel of the frame is a stair; a blur of half of it takes it away
    radius = max(_BLUR_PX, 0.5 * scale.height / scale.rows)
    levels = Image.fromarray(np.asarray(large).clip(0, 255).astype(np.uint8))
    return np.asarray(levels.filter(ImageFilter.GaussianBlur(radius)), np.float32) / 255


def _blend(canvas_HW3: Canvas, colour: Rgb, opacity_HW: Plane, window: Window) -> None:
    """Lay a colour over a part of the canvas."""
    left, top, right, bottom = window
    part_HW3 = canvas_HW3[top:bottom, left:right]
    part_HW3 += opacity_HW[..., None] * (np.array(colour, np.float32) - part_HW3)


def _draw_bar(picture: Image.Image, mm_per_pixel: MillimetresPerPixel, scale: Scale) -> None:
    """A bar of round millimetres at the lower left."""
    px_per_mm = scale.width / (scale.columns * mm_per_pixel[1])
    fitting = [mm for mm in _BARS_MM if mm * px_per_mm <= _BAR_SHARE * scale.width]
    length_mm = max(fitting, default=_BARS_MM[0])
    left, bottom = 16, scale.height - 18
    right = left + round(length_mm * px_per_mm)
    pen = ImageDraw.Draw(picture)
    for grow, colour in ((1, BACK), (0, INK)):
        pen.rectangle((left - grow, bottom - grow, right + grow, bottom + 2 + grow), colour)
        for end in (left, right - 2):
            pen.rectangle((end - grow, bottom - 5 - grow, end + 2 + grow, bottom + grow), colour)
    middle = ((left + right) / 2, bottom - 7)
    pen.text(middle, f"{length_mm} mm", INK, font(13), "ms", stroke_width=2, stroke_fill=BACK)
