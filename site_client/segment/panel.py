"""What stands under a picture: the numbers, the legend, the beat as a curve, and who measured."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from shared.echo.measurement import Measurement
from site_client.segment.cine import SegmentedCine
from site_client.segment.style import (
    BACK,
    CONTOUR,
    DOUBT,
    GAP,
    INK,
    LINE,
    PANEL,
    SOFT,
    STRUCTURE_COLOURS,
    STRUCTURE_NAMES,
    SUPERSAMPLING,
    WARNING,
    font,
)

_CELL = (128, 84)  # px of one number
_CURVE = (236, 84)
_LEGEND_ROW = 26
_FOOT_ROW = 18
_FIRST = ("EF", "EDV", "ESV", "SV", "GLS")  # in this order, then the others as they come
_UNITS = {"1": ""}


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """The cavity's area over the cine in a box of the panel.

    Args:
        values_T: cm^2 of each frame, NaN where there is no contour.
        box: left, top, right, bottom in the panel.
    """

    values_T: NDArray[np.float64]
    box: tuple[int, int, int, int]

    def xy(self, frame: int) -> tuple[float, float]:
        """Where a frame lies in the panel."""
        left, top, right, bottom = self.box
        low, high = float(np.nanmin(self.values_T)), float(np.nanmax(self.values_T))
        share = (self.values_T[frame] - low) / max(high - low, 1e-6)
        across = left + (right - left) * frame / max(len(self.values_T) - 1, 1)
        return across, bottom - share * (bottom - top)

    def draw_place(self, panel: Image.Image, frame: int) -> None:
        """Mark the frame that is shown."""
        left, top, right, bottom = self.box
        pen = ImageDraw.Draw(panel)
        across = left + (right - left) * frame / max(len(self.values_T) - 1, 1)
        pen.line((across, top - 4, across, bottom + 4), fill=INK, width=1)
        if np.isfinite(self.values_T[frame]):
            x, y = self.xy(frame)
            pen.ellipse((x - 4, y - 4, x + 4, y + 4), fill=CONTOUR, outline=BACK)


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """A drawn panel and the curve in it, None where the cine has none."""

    picture: Image.Image
    curve: Curve | None


def draw_panel(segmented: SegmentedCine, *, width: int, shows_doubt: bool = False) -> Panel:
    """Numbers, legend, curve and models; keys and ids only, nothing that names a patient."""
    numbers = headlines(segmented.measurements)
    has_curve = sum(contour is not None for contour in segmented.contours) > 2
    corners = _corners(len(numbers), width - 2 * GAP, has_curve=has_curve)
    rows = 1 + max((top for _, top in corners), default=0 if has_curve else -1)
    entries = _legend(segmented, shows_doubt=shows_doubt)
    lines = _wrapped(entries, width - 2 * GAP)
    foot = [line for text in _foot(segmented) for line in _broken(text, width - 2 * GAP)]
    height = GAP + rows * _CELL[1] + len(lines) * _LEGEND_ROW + len(foot) * _FOOT_ROW + GAP
    picture = Image.new("RGB", (width, height), PANEL)
    pen = ImageDraw.Draw(picture)
    for (column, row), number in zip(corners, numbers, strict=True):
        _draw_number(pen, (GAP + column * _CELL[0], GAP + row * _CELL[1]), number)
    curve = _draw_curve(pen, segmented, left=width - GAP - _CURVE[0]) if has_curve else None
    top = GAP + rows * _CELL[1]
    for line in lines:
        left = GAP
        for name in line:
            left = _draw_entry(pen, (left, top), name)
        top += _LEGEND_ROW
    for text in foot:
        pen.text((GAP, top), text, SOFT, font(12))
        top += _FOOT_ROW
    return Panel(picture, curve)


def in_order(measurements: Sequence[Measurement]) -> list[Measurement]:
    """The numbers that are looked at first, first."""
    rank = {name: place for place, name in enumerate(_FIRST)}
    return sorted(measurements, key=lambda number: rank.get(number.name, len(rank)))


def headlines(measurements: Sequence[Measurement]) -> list[Measurement]:
    """One number of each name: by another method, or of one view alone, it stands in documents."""
    first: dict[str, Measurement] = {}
    for number in in_order(measurements):
        first.setdefault(number.name, number)
    return list(first.values())


def in_words(value: float, unit: str) -> str:
    """A number as a person reads it."""
    decimals = {"ml": 0, "g": 0, "%": 1, "mm": 1, "1": 2}[unit]
    return f"{value:.{decimals}f}"


def _corners(num: int, width: int, *, has_curve: bool) -> list[tuple[int, int]]:
    """(column, row) of each number; the curve stands at the end of the first row."""
    beside = (width - (_CURVE[0] + GAP if has_curve else 0)) // _CELL[0]
    below = max(1, width // _CELL[0])
    first = [(column, 0) for column in range(min(num, max(1, beside)))]
    rest = num - len(first)
    return first + [(place % below, 1 + place // below) for place in range(rest)]


def _draw_number(pen: ImageDraw.ImageDraw, corner: tuple[int, int], number: Measurement) -> None:
    left, top = corner
    pen.text((left, top), number.name, SOFT, font(14))
    words = in_words(number.value, number.unit)
    pen.text((left, top + 48), words, INK, font(30), "ls")
    across = left + pen.textlength(words, font=font(30)) + 5
    pen.text((across, top + 48), _UNITS.get(number.unit, number.unit), SOFT, font(15), "ls")
    if number.interval is not None:
        low, high = (in_words(end, number.unit) for end in number.interval)
        pen.text((left, top + 54), f"{100 * number.level:.0f} %: {low} to {high}", SOFT, font(12))
    if number.flags:
        across = left + pen.textlength(number.name, font=font(14)) + 6
        pen.text((across, top + 2), "! " + ", ".join(number.flags), WARNING, font(11))


def _draw_curve(pen: ImageDraw.ImageDraw, segmented: SegmentedCine, *, left: int) -> Curve:
    areas = [c.area_mm2 / 100 if c is not None else np.nan for c in segmented.contours]
    box = (left + 8, GAP + 24, left + _CURVE[0] - 8, GAP + _CURVE[1] - 22)
    curve = Curve(np.array(areas), box)
    pen.text((left, GAP), "area of the cavity through the cine", SOFT, font(12))
    pen.rectangle((left, GAP + 18, left + _CURVE[0], GAP + _CURVE[1] - 14), outline=LINE)
    for run in _runs(curve.values_T):
        _draw_smooth_line(pen, [curve.xy(frame) for frame in run])
    for frame, name in ((segmented.ed, "ED"), (segmented.es, "ES")):
        if frame is not None and np.isfinite(curve.values_T[frame]):
            x, y = curve.xy(frame)
            pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill=INK)
            across = min(max(x, left + 10), left + _CURVE[0] - 10)
            pen.text((across, GAP + _CURVE[1] - 1), name, INK, font(12), "ms")
    return curve


def _runs(values_T: NDArray[np.float64]) -> list[list[int]]:
    """Frames in unbroken runs of known values, of two frames or more."""
    known = np.flatnonzero(np.isfinite(values_T))
    parts = np.split(known, np.flatnonzero(np.diff(known) > 1) + 1)
    return [part.tolist() for part in parts if len(part) > 1]


def _draw_smooth_line(pen: ImageDraw.ImageDraw, points: list[tuple[float, float]]) -> None:
    """A line without stairs."""
    fine = SUPERSAMPLING
    low = np.floor(np.min(points, axis=0)).astype(int) - 3
    high = np.ceil(np.max(points, axis=0)).astype(int) + 3
    layer = Image.new("L", tuple(((high - low) * fine).tolist()))
    placed = [tuple(point) for point in ((np.array(points) - low) * fine).tolist()]
    ImageDraw.Draw(layer).line(placed, fill=255, width=round(1.8 * fine), joint="curve")
    pen.bitmap(tuple(low.tolist()), layer.reduce(fine), fill=CONTOUR)


def _legend(segmented: SegmentedCine, *, shows_doubt: bool) -> list[str]:
    entries = list(segmented.structures)
    if any(contour is not None for contour in segmented.contours):
        entries += ["contour", "base", "apex"]
    return [*entries, "doubt"] if shows_doubt and segmented.doubts_T else entries


def _wrapped(entries: Sequence[str], width: int) -> list[list[str]]:
    """Entries in lines that fit."""
    lines: list[list[str]] = []
    used = width + 1
    for name in entries:
        wide = _entry_width(name)
        if used + wide > width:
            lines.append([])
            used = 0
        lines[-1].append(name)
        used += wide
    return lines


def _entry_width(name: str) -> int:
    return 44 + int(font(14).getlength(STRUCTURE_NAMES.get(name, name)))


def _draw_entry(pen: ImageDraw.ImageDraw, corner: tuple[int, int], name: str) -> int:
    """A sign and its meaning; returns where the next one begins."""
    left, top = corner
    x, y = left + 9, top + 9
    if name in STRUCTURE_COLOURS:
        colour = STRUCTURE_COLOURS[name]
        dim = tuple((part + 2 * back) // 3 for part, back in zip(colour, PANEL, strict=True))
        pen.rounded_rectangle((left, top + 2, left + 18, top + 16), 3, dim, colour)
    elif name == "contour":
        pen.line((left, y, left + 18, y), fill=CONTOUR, width=2)
    elif name == "base":
        pen.ellipse((x - 5, y - 5, x + 5, y + 5), fill=CONTOUR)
    elif name == "apex":
        pen.polygon([(x, y - 7), (x - 7, y + 5), (x + 7, y + 5)], fill=CONTOUR)
    else:
        pen.rounded_rectangle((left, top + 2, left + 18, top + 16), 3, DOUBT)
    pen.text((left + 26, y), STRUCTURE_NAMES.get(name, name), INK, font(14), "lm")
    return left + _entry_width(name)


def _foot(segmented: SegmentedCine) -> list[str]:
    methods = dict.fromkeys(number.method for number in headlines(segmented.measurements))
    models = ", ".join(model.id for model in segmented.models)
    return [
        *([f"measured by {'; '.join(methods)}"] if methods else []),
        f"segmented by {models}  ·  clip {segmented.clip.key}",
        "found by software; not reviewed by a physician",
    ]


def _broken(text: str, width: int) -> list[str]:
    """A text in lines that fit, broken between words."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".lstrip()
        if lines[-1] and font(12).getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
