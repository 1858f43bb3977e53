"""What a clip shows: plain tissue, colour flow, a spectrum or M-mode.

Region tags say it where a scanner writes them. Colours are looked for in any case, as scanners mark
the same region whether colour is switched on or not; a trace without tags is a wide rectangle of
texture outside the sector, ragged in time where it is a spectrum, in stripes where it is M-mode.

Reference: DICOM PS3.3 C.8.5.5.1.1 (region spatial format) and C.8.5.5.1.2 (region data type).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from shared.echo.sector import Fan, SectorMask
from site_client.datasets.raw import Chroma, Mode, RawClip

_LOOKED_AT = 4  # frames of a cine whose colours are kept
_OFF_GREY = 32  # of 127: chroma beyond the picture's own tint; compression stays below 16
_TINTED_FROM = 30  # grey level from which a pixel tells the tint
_MIN_FLOW = 0.003  # of the sector; in TTE47 flow covers 0.007 and more, furniture next to nothing
_CELLS = 120  # columns of the grid on which a trace is looked for
_TEXTURE, _DIM = 4.0, 6.0  # standard deviation and mean of a cell that is no empty screen
_WIDTH, _HEIGHT = 0.6, 0.12  # of the screen; at least 0.77 and 0.16 in TTE47's traces
_EVEN = 0.7  # width of the narrower rows by that of the widest: a rectangle, not a fan
_MIN_OPENING_DEG = 30.0  # probes of the heart open 45 and more
_RAGGED = 0.9  # change along time by change along depth: up to 0.4 in M-mode, from 1.2 in spectra


def frames_to_look_at(num_frames: int) -> set[int]:
    """Numbers of the frames whose colours are worth keeping."""
    return {num_frames * place // _LOOKED_AT for place in range(_LOOKED_AT)}


def thinned(frame: NDArray[Any]) -> NDArray[Any]:
    """Every second row and column; flow covers more than a pixel."""
    return frame[::2, ::2]


def chroma_of(rgb_HW3: NDArray[np.uint8]) -> Chroma:
    """Blue and red differences (Cb, Cr) of ITU-R BT.601 around zero."""
    levels = np.asarray(Image.fromarray(np.ascontiguousarray(rgb_HW3)).convert("YCbCr"))
    return (levels[..., 1:].astype(np.int16) - 128).astype(np.int8)


def mode_of(clip: RawClip, sector: SectorMask | None) -> Mode:
    """What a clip shows; a trace counts before colour, colour before tissue."""
    for trace in ("spectral", "m_mode"):
        if trace in clip.declared:
            return trace
    if not clip.declared and not clip.regions:
        undeclared = _trace_mode(clip.pixels_THW[0], sector)
        if undeclared == "m_mode" and _flows(clip, np.ones(clip.pixels_THW.shape[1:], np.bool_)):
            return "colour"  # a linear probe's picture whose edges were not found
        if undeclared is not None:
            return undeclared
    return "colour" if "colour" in clip.declared or _shows_flow(clip, sector) else "b_mode"


def _shows_flow(clip: RawClip, sector: SectorMask | None) -> bool:
    """Whether pixels of the tissue have another colour than the rest of it."""
    inside_HW = np.zeros(clip.pixels_THW.shape[1:], dtype=np.bool_)
    if sector is not None:
        inside_HW = sector.mask_HW
    for region in clip.regions if sector is None else ():
        inside_HW[region.slices()] = True
    return _flows(clip, inside_HW)


def _flows(clip: RawClip, inside_HW: NDArray[np.bool_]) -> bool:
    """Whether a share of these pixels has another colour than the rest of them."""
    inside = thinned(inside_HW)
    least = _MIN_FLOW * inside.sum()
    return least > 0 and any(
        _flow(thinned(clip.pixels_THW[place]), chroma, inside) >= least
        for place, chroma in clip.colours.items()
    )


def _flow(grey_HW: NDArray[np.uint8], chroma_HW2: Chroma, inside_HW: NDArray[np.bool_]) -> int:
    """Number of pixels of solid patches off the tint.

    The tint of a scanner's coloured grey map grows with brightness; lines and letters are thin.
    """
    grey_HW1 = grey_HW[..., None].astype(np.float32)
    bright = inside_HW & (grey_HW > _TINTED_FROM)
    tint_2 = np.median(chroma_HW2[bright] / grey_HW1[bright], axis=0) if bright.any() else 0.0
    off = (np.abs(chroma_HW2 - tint_2 * grey_HW1) > _OFF_GREY).any(axis=2) & inside_HW
    return int(ndimage.binary_opening(off, np.ones((3, 3))).sum())


def _trace_mode(pixels_HW: NDArray[np.uint8], sector: SectorMask | None) -> Mode | None:
    """Kind of the trace on a screen that declares nothing, None where there is none.

    A sector with steep sides may be a spectrum taken for tissue, so it is looked at too; M-mode is
    not seen there, because it looks like the picture of a linear probe.
    """
    step = max(1, pixels_HW.shape[1] // _CELLS)
    texture = _textured(pixels_HW, step)
    is_steep = sector is not None and _is_steep(sector.fan)
    if sector is not None and not is_steep:
        inside = _cells(sector.mask_HW, step).any(axis=(1, 3))
        texture &= ~ndimage.binary_dilation(inside, iterations=3)
    rows = _strip(texture)
    if rows is None:
        return None
    strip = pixels_HW[rows.start * step : rows.stop * step].astype(np.float32)
    smooth = ndimage.uniform_filter(strip, 3)
    along_time, along_depth = (np.abs(np.diff(smooth, axis=axis)).mean() for axis in (1, 0))
    if along_time > _RAGGED * along_depth:
        return "spectral"
    return None if is_steep else "m_mode"


def _is_steep(fan: Fan | None) -> bool:
    return fan is not None and fan.angle_max_deg - fan.angle_min_deg < _MIN_OPENING_DEG


def _cells(pixels_HW: NDArray[Any], step: int) -> NDArray[Any]:
    """Pixels as (rows, pixel rows, columns, pixel columns) of a grid; what is left over goes."""
    rows, columns = (size // step for size in pixels_HW.shape)
    return pixels_HW[: rows * step, : columns * step].reshape(rows, step, columns, step)


def _textured(pixels_HW: NDArray[np.uint8], step: int) -> NDArray[np.bool_]:
    cells = _cells(pixels_HW, step).astype(np.float32)
    textured = (cells.std(axis=(1, 3)) > _TEXTURE) & (cells.mean(axis=(1, 3)) > _DIM)
    opened: NDArray[np.bool_] = ndimage.binary_opening(textured, np.ones((2, 2)))
    return opened


def _strip(texture: NDArray[np.bool_]) -> slice | None:
    """Rows of the highest rectangle that is as wide and high as a trace, None where none is."""
    height, width = texture.shape
    closed = ndimage.binary_closing(np.pad(texture, 4), np.ones((3, 5)))[4:-4, 4:-4]
    labels, num_parts = ndimage.label(closed)
    found: list[slice] = []
    for part in range(1, num_parts + 1):
        inside = labels == part
        last = width - 1 - inside[:, ::-1].argmax(axis=1)
        extent = (last - inside.argmax(axis=1)) * inside.any(axis=1)
        is_wide = ndimage.binary_closing(np.pad(extent >= _WIDTH * width, 3), iterations=2)[3:-3]
        runs, _ = ndimage.label(is_wide)
        found += [
            rows
            for (rows,) in ndimage.find_objects(runs)
            if rows.stop - rows.start >= _HEIGHT * height
            and np.quantile(extent[rows], 0.2) >= _EVEN * extent[rows].max()
        ]
    return max(found, key=lambda rows: rows.stop - rows.start, default=None)
