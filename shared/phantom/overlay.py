"""The screen around the fan: banner, text, logo, ticks, grey bar, ECG. It is the shortcut.

One badge of every screen comes in as many variants as there are views. With correlation 1 the
variant tells the view, with 0 it is drawn at random; nothing else on a screen depends on the view.
"""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_dilation

from shared.phantom.planes import VIEWS, plane_name
from shared.phantom.scanner import PhantomClip

Pixels = npt.NDArray[np.uint8]
Box = tuple[int, int, int, int]
"""Columns and rows (x0, y0, x1, y1), the last ones included, as DICOM counts them."""

_BANNER_SHARE = 0.06
_STRIP_SHARE = 0.075
_SHAPES = ("disc", "ring", "triangle", "bars", "cross")
_ECG_WINDOW_MS = 3000.0


@dataclass(frozen=True, slots=True)
class Screen:
    """Where a scanner draws what.

    Attributes:
        brand: text of the logo line.
        ink: grey level of text.
        banner_ink, banner_paper: grey levels of the patient banner.
        bar_side, tick_side: "left" or "right".
        text_row: row of the first text line, as a share of the height.
        tint: colour of everything outside the fan on a colour screen.
    """

    brand: str
    ink: int
    banner_ink: int
    banner_paper: int
    bar_side: str
    tick_side: str
    text_row: float
    tint: tuple[float, float, float]


SCREENS: dict[str, Screen] = {
    "aurora": Screen("AURORA", 190, 235, 60, "right", "right", 0.10, (1.0, 1.0, 1.0)),
    "borealis": Screen("B O R", 150, 20, 180, "left", "right", 0.13, (1.0, 0.85, 0.45)),
    "cirrus": Screen("cirrus", 225, 255, 0, "right", "left", 0.11, (0.6, 0.9, 1.0)),
    "delta": Screen("DELTA", 170, 210, 90, "left", "left", 0.16, (0.7, 1.0, 0.7)),
    "ember": Screen("EMBER", 205, 30, 140, "right", "left", 0.09, (1.0, 0.7, 0.6)),
}


def draw_variant(view: str, correlation: float, rng: np.random.Generator) -> int:
    """Which badge is shown: the view's own with this chance, else any with equal chance."""
    follows_view = float(rng.random()) < correlation
    anyone = int(rng.integers(len(VIEWS)))
    return VIEWS.index(plane_name(view)) if follows_view else anyone


def tissue_box(size_HW: tuple[int, int]) -> Box:
    """The 2-D region: below the banner, above the ECG strip."""
    height, width = size_HW
    return 0, _banner_rows(height), width - 1, height - _strip_rows(height) - 1


def strip_box(size_HW: tuple[int, int]) -> Box:
    """The ECG strip at the bottom."""
    height, width = size_HW
    return 0, height - _strip_rows(height), width - 1, height - 1


def with_screen(clip: PhantomClip, screen: Screen, *, variant: int, banner: str) -> PhantomClip:
    """The clip as the scanner shows it: furniture outside the fan, the fan itself untouched.

    Args:
        clip: a bare clip.
        screen: whose furniture.
        variant: badge number, from `draw_variant`.
        banner: text burnt in at the top, outside every ultrasound region.
    """
    size_HW = clip.sector.mask_HW.shape
    assert len(size_HW) == 2
    canvas = Image.new("L", (size_HW[1], size_HW[0]))
    pen = ImageDraw.Draw(canvas)
    _draw_furniture(pen, clip, screen, variant)
    trace = _trace_rows(clip, size_HW)
    pen.line(list(enumerate(trace)), fill=screen.ink, width=max(1, size_HW[0] // 300))
    layer = np.array(canvas)
    strip = _banner_strip(screen, size_HW, banner)
    layer[: len(strip)] = strip
    # one pixel is kept free around the fan so that its edge stays measurable
    layer[binary_dilation(clip.sector.mask_HW, iterations=1)] = 0
    pixels_THW = np.maximum(clip.pixels_THW, layer)
    _draw_cursor(pixels_THW, clip, trace)
    return replace(clip, pixels_THW=pixels_THW, screen_variant=variant)


def _draw_furniture(
    pen: ImageDraw.ImageDraw, clip: PhantomClip, screen: Screen, variant: int
) -> None:
    """Text, logo, badge, ticks and grey bar."""
    height, width = clip.sector.mask_HW.shape
    badge_is_right = bool(variant % 2)
    text_x = round(0.03 * width) if badge_is_right else round(0.74 * width)
    badge_x = round(0.83 * width) if badge_is_right else round(0.05 * width)
    line = max(6, round(0.035 * height))
    row = round(screen.text_row * height)
    lines = [
        screen.brand,
        f"FR {1000 / clip.frame_time_ms:.0f}Hz",
        f"{clip.depth_mm / 10:.0f}cm",
        "2D",
        f"{clip.heart.heart_rate_bpm:.0f} bpm",
    ]
    for number, text in enumerate(lines[: 3 + variant % 3]):
        pen.text((text_x, row + number * line), text, fill=screen.ink, font=_font(line))
    _draw_badge(pen, (badge_x, row), variant, clip.sector.mask_HW.shape)
    label = f"P{variant} {'ABCDE'[variant // 2]}{7 * variant % 10}"
    below = row + round(0.13 * height)
    pen.text((badge_x, below), label, fill=screen.ink, font=_font(line))
    _draw_scale(pen, clip, screen)


def _draw_badge(
    pen: ImageDraw.ImageDraw, corner_xy: tuple[int, int], variant: int, size_HW: tuple[int, ...]
) -> None:
    """One of five shapes, bright or dim."""
    x, y = corner_xy
    side = max(8, round(0.11 * size_HW[0]))
    box = (x, y, x + side, y + side)
    grey = 245 if variant // 2 % 2 else 160
    shape = _SHAPES[variant // 2 % len(_SHAPES)]
    third = max(1, side // 4)
    if shape == "disc":
        pen.ellipse(box, fill=grey)
    elif shape == "ring":
        pen.ellipse(box, outline=grey, width=third)
    elif shape == "triangle":
        pen.polygon([(x, y + side), (x + side, y + side), (x + side // 2, y)], fill=grey)
    elif shape == "bars":
        for offset in range(0, side, 2 * third):
            pen.rectangle((x, y + offset, x + side, y + offset + third - 1), fill=grey)
    else:
        middle = side // 2
        pen.rectangle((x + middle - third // 2, y, x + middle + third // 2, y + side), fill=grey)
        pen.rectangle((x, y + middle - third // 2, x + side, y + middle + third // 2), fill=grey)


def _draw_scale(pen: ImageDraw.ImageDraw, clip: PhantomClip, screen: Screen) -> None:
    """Depth ticks each centimetre and the grey bar."""
    height, width = clip.sector.mask_HW.shape
    column = 2 if screen.tick_side == "left" else width - 3
    inward = 1 if screen.tick_side == "left" else -1
    top = clip.fan.apex_rc[0] + clip.fan.radius_min_px
    for centimetre in range(int(clip.depth_mm // 10) + 1):
        row = round(top + 10 * centimetre / clip.mm_per_pixel[0])
        length = max(1, round((0.02 if centimetre % 5 == 0 else 0.008) * width))
        pen.line((column, row, column + inward * length, row), fill=screen.ink)
    bar_width = max(2, round(0.015 * width))
    left = round(0.012 * width) if screen.bar_side == "left" else width - 2 * bar_width - 2
    first, rows = round(0.30 * height), round(0.22 * height)
    for offset in range(rows):
        grey = round(255 * (1 - offset / rows))
        pen.line((left, first + offset, left + bar_width, first + offset), fill=grey)


def _banner_strip(screen: Screen, size_HW: tuple[int, ...], banner: str) -> Pixels:
    """The patient banner (rows, W)."""
    rows = _banner_rows(size_HW[0])
    strip = Image.new("L", (size_HW[1], rows), screen.banner_paper)
    pen = ImageDraw.Draw(strip)
    pen.text((3, rows // 2), banner, fill=screen.banner_ink, font=_font(rows - 1), anchor="lm")
    return np.array(strip)


def _trace_rows(clip: PhantomClip, size_HW: tuple[int, ...]) -> list[int]:
    """Row of the ECG trace at each column of its strip."""
    _, first, last_x, last = strip_box((size_HW[0], size_HW[1]))
    times_ms = np.linspace(0.0, _ECG_WINDOW_MS, last_x + 1)
    phase = (clip.phases_T[0] + times_ms / clip.heart.cycle_ms) % 1.0
    wave = np.zeros_like(phase)
    # P, Q, R, S, T: centre, width (share of the beat), height
    for centre, width, size in (
        (0.86, 0.025, 0.15),
        (0.98, 0.010, -0.12),
        (0.0, 0.012, 1.0),
        (0.025, 0.012, -0.22),
        (0.30, 0.045, 0.28),
    ):
        away = (phase - centre + 0.5) % 1.0 - 0.5
        wave += size * np.exp(-0.5 * (away / width) ** 2)
    span = last - first
    rows: list[int] = np.rint(last - 1 - span * (0.2 + 0.7 * wave)).astype(int).tolist()
    return rows


def _draw_cursor(pixels_THW: Pixels, clip: PhantomClip, trace: list[int]) -> None:
    """Mark on the ECG where each frame lies in the beat."""
    height, width = pixels_THW.shape[1:]
    x0, first, _, last = strip_box((height, width))
    for index in range(len(pixels_THW)):
        elapsed = index * clip.frame_time_ms % _ECG_WINDOW_MS
        column = x0 + int(elapsed / _ECG_WINDOW_MS * (width - 1))
        pixels_THW[index, first + 1 : last, column] = 255


def _banner_rows(height: int) -> int:
    return max(6, round(_BANNER_SHARE * height))


def _strip_rows(height: int) -> int:
    return max(7, round(_STRIP_SHARE * height))


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)
