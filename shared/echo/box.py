"""The upright rectangle of a linear probe, by its four edges."""

import numpy as np

from shared.echo.outline import NEAR_PX, Mask, Points, begins_of, outermost

_MIN_HELD = 0.75  # of each edge; a page of text has a ragged right edge, a spectrum a ragged top


def fit_box(tissue_HW: Mask) -> tuple[Points, float] | None:
    """Find the rectangle on whose edges tissue begins all along.

    Returns:
        Its first and last row and column (top, bottom, left, right), and the share of its weakest
        edge that is seen; None where no rectangle fits.
    """
    across, down = begins_of(tissue_HW), begins_of(tissue_HW.T)
    sides = (down.left_rc, -down.right_rc, across.left_rc, -across.right_rc)
    if min(len(side) for side in sides) < 2:
        return None
    places, counts = zip(*(_edge(side[:, 1]) for side in sides), strict=True)
    top, bottom, left, right = places[0], -places[1], places[2], -places[3]
    if bottom - top < 2 or right - left < 2:
        return None
    lengths = np.array([right - left, right - left, bottom - top, bottom - top])
    held = float((np.array(counts) / lengths).min())
    return (np.array([top, bottom, left, right]), min(1.0, held)) if held > _MIN_HELD else None


def _edge(values: Points) -> tuple[float, int]:
    """Where most of the values begin, and how many do so there."""
    place, _ = outermost(values[None])
    on_edge = values[np.abs(values - place[0]) < NEAR_PX]
    return float(np.median(on_edge)) if len(on_edge) else float(place[0]), len(on_edge)
