"""A number of several outlines becomes a measurement with an interval: the delta method."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from scipy.special import ndtri

from shared.echo.contour import Points
from shared.echo.frame import MillimetresPerPixel
from shared.echo.measurement import Flag, Measurement, Unit

LEVEL = 0.95
_STEP = 1e-3  # of a standard deviation: differences are free of noise in float64
_NEGLIGIBLE = 1e-9  # of the largest variance

Formula = Callable[[Sequence[Points]], float]
"""From the points (P, 2) of each outline to the number."""


class Outlined(Protocol):
    """Points with a picture and, where known, a covariance."""

    @property
    def points_xy_mm(self) -> Points:
        """(P, 2)."""
        ...

    @property
    def covariance(self) -> Points | None:
        """(2P, 2P) in mm^2."""
        ...

    @property
    def view(self) -> str:
        """Id of the view."""
        ...

    @property
    def frame(self) -> int:
        """Index in the clip."""
        ...

    @property
    def mm_per_pixel(self) -> MillimetresPerPixel:
        """Spacing of (rows, columns)."""
        ...


def measure(
    name: str,
    unit: Unit,
    formula: Formula,
    outlines: Sequence[Outlined],
    *,
    method: str,
    flags: tuple[Flag, ...] = (),
) -> Measurement:
    """Apply a formula to outlines and say how far their covariances let it move.

    The interval is the first-order normal one. Outlines are taken to err independently of each
    other; an error that ED and ES share makes the interval of EF too wide.
    """
    points = [outline.points_xy_mm for outline in outlines]
    value = formula(points)
    spread = deviation(formula, outlines)
    reach = float(ndtri(0.5 + LEVEL / 2))
    return Measurement(
        name=name,
        value=value,
        unit=unit,
        method=method,
        views=tuple(outline.view for outline in outlines),
        frames=tuple(outline.frame for outline in outlines),
        mm_per_pixel=tuple(outline.mm_per_pixel for outline in outlines),
        interval=None if spread is None else (value - reach * spread, value + reach * spread),
        level=LEVEL,
        flags=flags,
    )


def deviation(formula: Formula, outlines: Sequence[Outlined]) -> float | None:
    """Standard deviation of a formula by central differences, None where a covariance is unknown.

    Differences are taken along the principal directions of each covariance, so a curve through
    seven uncertain points costs fourteen of them, however dense it is.
    """
    points = [outline.points_xy_mm for outline in outlines]
    variance = 0.0
    for place, outline in enumerate(outlines):
        if outline.covariance is None:
            return None
        for move in _principal_moves(outline.covariance):
            ends = [
                formula([*points[:place], points[place] + step * move, *points[place + 1 :]])
                for step in (_STEP, -_STEP)
            ]
            variance += ((ends[0] - ends[1]) / (2 * _STEP)) ** 2
    return float(np.sqrt(variance))


def _principal_moves(covariance: Points) -> list[Points]:
    """Moves (P, 2) of one standard deviation along each direction that varies at all."""
    variances, directions = np.linalg.eigh(covariance)
    kept = variances > _NEGLIGIBLE * max(float(variances[-1]), np.finfo(float).tiny)
    moves = (directions[:, kept] * np.sqrt(variances[kept])).T
    return [move.reshape(-1, 2) for move in moves]
