"""A segmented cine as pictures: end diastole beside end systole as PNG, the whole cine as MP4."""

import io
from fractions import Fraction

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from shared.echo.ontology import load_ontology
from site_client.segment.cine import SegmentedCine
from site_client.segment.frame_picture import draw_frame
from site_client.segment.panel import Panel, draw_panel
from site_client.segment.style import BACK, GAP, INK, PICTURE_HEIGHT, SOFT, font

_HEAD = 44  # px above a picture
_MIN_WIDTH = 640
_FRAMES_PER_S = 25  # where the time between frames is unknown
_ENCODERS = ("libx264", "libopenh264", "mpeg4")


def draw_png(segmented: SegmentedCine, *, shows_doubt: bool = False) -> bytes:
    """The frames at end diastole and end systole side by side, or else the frame in the middle.

    The picture holds keys and ids of models, and nothing that names a patient.
    """
    shown = [
        (frame, title)
        for frame, title in ((segmented.ed, "End diastole"), (segmented.es, "End systole"))
        if frame is not None
    ]
    if not shown:
        frame = len(segmented.clip.pixels_THW) // 2
        shown = [(frame, load_ontology().find(segmented.view).name)]
    canvas = _page(segmented, shown, shows_doubt=shows_doubt)[0]
    out = io.BytesIO()
    canvas.save(out, "PNG")
    return out.getvalue()


def draw_mp4(segmented: SegmentedCine, *, shows_doubt: bool = False) -> bytes:
    """The cine at its own pace, one picture for each frame; H.264, or MPEG-4 where there is none.

    Nothing is written beside the pictures: no title, no time of making.
    """
    out = io.BytesIO()
    title = load_ontology().find(segmented.view).name
    page, panel = _page(segmented, [(0, title)], shows_doubt=shows_doubt)
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream(_encoder(), rate=_rate(segmented))
        # colours are kept for blocks of two by two pixels
        stream.width, stream.height = (side + side % 2 for side in page.size)
        stream.pix_fmt = "yuv420p"
        if stream.codec.name == "libx264":
            stream.options = {"crf": "18", "preset": "veryfast"}
        for number in range(len(segmented.clip.pixels_THW)):
            shown_HW3 = _moment(
                segmented, page, panel, frame=number, title=title, shows_doubt=shows_doubt
            )
            picture = av.VideoFrame.from_ndarray(_even(shown_HW3), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return out.getvalue()


def _page(
    segmented: SegmentedCine, shown: list[tuple[int, str]], *, shows_doubt: bool
) -> tuple[Image.Image, Panel]:
    """Pictures of some frames in a row above the panel."""
    pictures = [
        draw_frame(segmented, frame, height=PICTURE_HEIGHT, shows_doubt=shows_doubt)
        for frame, _ in shown
    ]
    wide = sum(picture.width for picture in pictures) + GAP * (len(pictures) - 1)
    width = max(wide, _MIN_WIDTH)
    panel = draw_panel(segmented, width=width, shows_doubt=shows_doubt)
    canvas = Image.new("RGB", (width, _HEAD + PICTURE_HEIGHT + panel.picture.height), BACK)
    left = (width - wide) // 2
    for picture, (frame, title) in zip(pictures, shown, strict=True):
        canvas.paste(picture, (left, _HEAD))
        _draw_title(canvas, left, title=title, note=_note(segmented, frame))
        left += picture.width + GAP
    canvas.paste(panel.picture, (0, _HEAD + PICTURE_HEIGHT))
    return canvas, panel


def _moment(
    segmented: SegmentedCine,
    page: Image.Image,
    panel: Panel,
    *,
    frame: int,
    title: str,
    shows_doubt: bool,
) -> NDArray[np.uint8]:
    """The page with another frame, and its place on the curve."""
    canvas = page.copy()
    picture = draw_frame(segmented, frame, height=PICTURE_HEIGHT, shows_doubt=shows_doubt)
    left = (canvas.width - picture.width) // 2
    canvas.paste(picture, (left, _HEAD))
    ImageDraw.Draw(canvas).rectangle((0, 0, canvas.width, _HEAD - 1), BACK)
    instant = {segmented.ed: "end diastole", segmented.es: "end systole"}.get(frame, "")
    note = _note(segmented, frame) + (f"  ·  {instant}" if instant else "")
    _draw_title(canvas, left, title=title, note=note)
    if panel.curve is not None:
        below = panel.picture.copy()
        panel.curve.draw_place(below, frame)
        canvas.paste(below, (0, _HEAD + PICTURE_HEIGHT))
    return np.asarray(canvas)


def _draw_title(canvas: Image.Image, left: int, *, title: str, note: str) -> None:
    pen = ImageDraw.Draw(canvas)
    pen.text((left + GAP, 29), title, INK, font(20), "ls")
    across = left + GAP + pen.textlength(title, font=font(20)) + 12
    pen.text((across, 29), note, SOFT, font(14), "ls")


def _note(segmented: SegmentedCine, frame: int) -> str:
    seconds = segmented.seconds(frame)
    when = "" if seconds is None else f"  ·  {seconds:.2f} s"
    return f"{segmented.view}  ·  frame {frame + 1} of {len(segmented.clip.pixels_THW)}{when}"


def _rate(segmented: SegmentedCine) -> Fraction:
    step_ms = segmented.clip.frame_time_ms
    if step_ms is None or step_ms <= 0:
        return Fraction(_FRAMES_PER_S)
    return Fraction(1000.0 / step_ms).limit_denominator(1000)


def _encoder() -> str:
    """The first encoder that this build of FFmpeg has; MPEG-4 is part of every one."""
    return next(name for name in _ENCODERS if name in av.codecs_available)


def _even(picture_HW3: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rows, columns = picture_HW3.shape[:2]
    return np.pad(picture_HW3, ((0, rows % 2), (0, columns % 2), (0, 0)), mode="edge")
