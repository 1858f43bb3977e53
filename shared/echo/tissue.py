"""Which pixels of a screen may be tissue: those that differ from its black and are not even.

Tissue moves, is speckled and hangs together; screen furniture stands still, is even or is thin.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]
_Value = TypeVar("_Value", np.bool_, np.uint8)

DENSITIES = {0.75: 1, 0.3: 2, 0.15: 3}
"""Share of lit pixels of a solid cell, clean tissue first -> cells of a gap that is closed."""
_MAX_FRAMES = 12  # frames looked at; more change nothing
_FINE = 400  # longest side to which pixels are joined before anything is looked for
_GRID = 120  # longest side of the grid on which components are found
_MARGIN, _DARK = 4, 64  # pixels of the rim; its black is darker than that
_LIT = 5  # grey levels from the screen's own black
_PATCH, _EVEN = 4, 1  # joined pixels along a patch of a panel, and its range of grey levels
_RIM = 4  # cells around the grid, so that closing works at its rim too
_MIN_MOVING = 0.04  # share of the picture that moves in a cine; less is a trace or a clock


@dataclass(frozen=True, slots=True, eq=False)
class Tissue:
    """A screen or region of it, seen coarsely.

    Attributes:
        lit_HW: joined pixels that may be tissue.
        share: share of them in each cell of the grid.
        joined: pixels of the screen along a joined one.
        cell: joined pixels along a cell.
    """

    lit_HW: Mask
    share: NDArray[np.float64]
    joined: int
    cell: int

    def beside(self, solid: Mask) -> Mask:
        """The lit pixels in and around cells of the grid."""
        around = ndimage.binary_dilation(solid, np.ones((3, 3)), iterations=2)
        height, width = self.lit_HW.shape
        spread = around.repeat(self.cell, axis=0).repeat(self.cell, axis=1)
        near: Mask = self.lit_HW & spread[:height, :width]
        return near


def tissue_of(frames_THW: NDArray[np.uint8]) -> Tissue:
    """Look at a still, or at what also moves in a cine."""
    chosen = np.unique(np.linspace(0, len(frames_THW) - 1, _MAX_FRAMES).round().astype(int))
    joined = max(1, -(-max(frames_THW.shape[1:]) // _FINE))
    peak = frames_THW[chosen].max(axis=0) if len(chosen) > 1 else frames_THW[0]
    black = _black(peak)
    lit = _join((peak > black + _LIT) | (peak < max(0, black - _LIT)), joined)
    if len(chosen) > 3:
        moving = _join(peak - frames_THW[chosen].min(axis=0) > _LIT, joined)
        lit = lit & moving if moving.mean() > _MIN_MOVING else lit
    cell = max(1, -(-max(lit.shape) // _GRID))
    lit &= ~_even(peak[::joined, ::joined][: lit.shape[0], : lit.shape[1]])
    share = _tiles(lit, cell).mean(axis=0, dtype=np.float64)
    return Tissue(lit, share, joined, cell)


def solid_components(share: NDArray[np.float64], density: float) -> tuple[Mask, Mask]:
    """Cells of the largest component after thin things are gone, holes filled; and of all."""
    square = np.ones((3, 3))
    closed = ndimage.binary_closing(
        np.pad(share > density, _RIM), square, iterations=DENSITIES[density]
    )
    opened: Mask = ndimage.binary_opening(closed, square, iterations=2)
    opened = opened[_RIM:-_RIM, _RIM:-_RIM]
    labels, _ = ndimage.label(opened)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    largest: Mask = ndimage.binary_fill_holes((labels == sizes.argmax()) & opened)
    return largest, opened


def _black(grey_HW: NDArray[np.uint8]) -> int:
    """The dark level that is most frequent in the picture and along its rim, taken together.

    Alone, the picture's could be the noise of deep tissue, and the rim's a banner's paper.
    """
    rims = grey_HW[:_MARGIN], grey_HW[-_MARGIN:], grey_HW[:, :_MARGIN], grey_HW[:, -_MARGIN:]
    along_rim = np.bincount(np.concatenate(rims, axis=None), minlength=_DARK)[:_DARK]
    within = np.bincount(grey_HW[::2, ::2].ravel(), minlength=_DARK)[:_DARK]
    return int((along_rim * within).argmax())


def _join(mask: Mask, step: int) -> Mask:
    """Pixels of which at least half are set, ``step`` by ``step`` joined to one."""
    rows, columns = (size // step * step for size in mask.shape)
    count = _tiles(mask[:rows, :columns], step).sum(axis=0, dtype=np.uint16)
    joined: Mask = count * 2 >= step * step
    return joined


def _even(grey_HW: NDArray[np.uint8]) -> Mask:
    """Pixels of even patches: panels, buttons, a banner's paper."""
    shades = _tiles(grey_HW, _PATCH)
    even = shades.max(axis=0) - shades.min(axis=0) <= _EVEN
    spread: Mask = even.repeat(_PATCH, axis=0).repeat(_PATCH, axis=1)
    return spread[: grey_HW.shape[0], : grey_HW.shape[1]]


def _tiles(values_HW: NDArray[_Value], step: int) -> NDArray[_Value]:
    """What lies in each ``step`` by ``step`` tile, (step * step, rows, columns).

    The last tiles repeat the picture's rim.
    """
    rim = [(0, -size % step) for size in values_HW.shape]
    padded = np.pad(values_HW, rim, mode="edge")
    places = np.ndindex(step, step)
    return np.stack([padded[row::step, column::step] for row, column in places])
