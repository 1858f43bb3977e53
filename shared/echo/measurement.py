"""A measurement: a number with its unit, how it was found, on what, and how sure it is."""

from dataclasses import dataclass
from typing import Literal

from shared.echo.frame import MillimetresPerPixel

Unit = Literal["ml", "%", "g", "mm", "1"]
Flag = Literal["foreshortened"]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One number of a report.

    Args:
        name: such as EDV, EF, GLS.
        method: how it was found, in words for the report.
        views: the view of each contour used.
        frames: the frame of each contour used, in the same order.
        mm_per_pixel: the spacing of each contour used, in the same order.
        interval: holds the truth with the chance `level` if the contours' covariances are right and
            the heart has the shape that the method assumes; None where a contour has none.
        flags: what speaks against the number.
    """

    name: str
    value: float
    unit: Unit
    method: str
    views: tuple[str, ...]
    frames: tuple[int, ...]
    mm_per_pixel: tuple[MillimetresPerPixel, ...]
    interval: tuple[float, float] | None = None
    level: float = 0.95
    flags: tuple[Flag, ...] = ()
