"""A frame as a picture: with a verdict and its bars, or with the boxes of what may be text."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from shared.echo.verdict import Verdict
from site_client.clip_file import StoredClip
from site_client.text import TextBox

_HEIGHT = 480  # px of the picture
_PANEL = 380  # px of the column of bars
_LINE = 26
_MARGIN = 16
_NUM_VIEWS = 8
_BACK, _INK, _SOFT, _TEAL, _AMBER = "#10151b", "#f2f5f7", "#8a97a3", "#27a3c4", "#e0a030"


def draw_overlay(clip: StoredClip, verdict: Verdict) -> bytes:
    """Draw the middle frame beside the verdict, as PNG."""
    frame = _frame_with_sector(clip)
    rows = 4 + min(_NUM_VIEWS, len(verdict.probabilities)) + len(verdict.experts)
    height = max(_HEIGHT, 2 * _MARGIN + _LINE * (rows + 1))
    canvas = Image.new("RGB", (frame.width + _PANEL, height), _BACK)
    canvas.paste(frame, (0, (height - frame.height) // 2))
    _draw_panel(ImageDraw.Draw(canvas), verdict, left=frame.width + _MARGIN)
    out = BytesIO()
    canvas.save(out, "PNG")
    return out.getvalue()


def draw_boxes(clip: StoredClip, boxes: Sequence[TextBox]) -> bytes:
    """Draw the middle frame with boxes around what may be text, as PNG."""
    frame = _frame_with_sector(clip)
    scale = frame.height / clip.pixels_THW.shape[1]
    pen = ImageDraw.Draw(frame)
    for box in boxes:
        corner = box.column_start * scale - 2, box.row_start * scale - 2
        pen.rectangle(
            (*corner, box.column_end * scale + 1, box.row_end * scale + 1), outline=_AMBER
        )
    out = BytesIO()
    frame.save(out, "PNG")
    return out.getvalue()


def _frame_with_sector(clip: StoredClip) -> Image.Image:
    grey_HW = clip.pixels_THW[len(clip.pixels_THW) // 2]
    scale = _HEIGHT / grey_HW.shape[0]
    size = (round(grey_HW.shape[1] * scale), _HEIGHT)
    frame = Image.fromarray(grey_HW).resize(size, Image.Resampling.BICUBIC).convert("RGB")
    if clip.mask_HW is None:
        return frame
    mask = Image.fromarray(clip.mask_HW.astype(np.uint8) * 255).resize(size)
    inside_HW = np.asarray(mask) > 127
    padded_HW = np.pad(inside_HW, 1)
    core_HW = (
        padded_HW[:-2, 1:-1] & padded_HW[2:, 1:-1] & padded_HW[1:-1, :-2] & padded_HW[1:-1, 2:]
    )
    pixels_HW3 = np.array(frame)
    pixels_HW3[inside_HW & ~core_HW] = (39, 163, 196)
    return Image.fromarray(pixels_HW3)


def _draw_panel(draw: ImageDraw.ImageDraw, verdict: Verdict, *, left: int) -> None:
    big, small = ImageFont.load_default(22), ImageFont.load_default(14)
    top = verdict.probabilities[verdict.view]
    title = f"{verdict.view}  {top:.2f}"
    draw.text((left, _MARGIN), title, fill=_AMBER if verdict.abstains else _INK, font=big)
    doubt = f"abstains: {', '.join(verdict.doubts)}"
    note = doubt if verdict.abstains else f"{verdict.num_frames} frames"
    draw.text((left, _MARGIN + _LINE), note, fill=_SOFT, font=small)
    line = _MARGIN + 2 * _LINE + 8
    ranked = sorted(verdict.probabilities.items(), key=lambda item: -item[1])[:_NUM_VIEWS]
    for name, value in ranked:
        _draw_bar(draw, (left, line), name, value, _TEAL)
        line += _LINE
    draw.text((left, line + 6), "who was heard (id score)", fill=_SOFT, font=small)
    line += _LINE + 4
    for say in verdict.experts:
        _draw_bar(draw, (left, line), f"{say.expert} says {say.top_view}", say.id_score, _AMBER)
        line += _LINE


def _draw_bar(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], name: str, value: float, colour: str
) -> None:
    font = ImageFont.load_default(13)
    left, line = corner
    width = _PANEL - 2 * _MARGIN - 44
    draw.rectangle((left, line, left + width, line + _LINE - 8), outline="#2b3641")
    draw.rectangle((left, line, left + round(width * min(value, 1.0)), line + _LINE - 8), colour)
    draw.text((left + 6, line + 1), name[:46], fill=_INK, font=font)
    draw.text((left + width + 6, line + 1), f"{value:.2f}", fill=_INK, font=font)
