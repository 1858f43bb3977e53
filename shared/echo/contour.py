"""A contour: ordered points in mm from one base point over the apex to the other."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.echo.frame import MillimetresPerPixel
from shared.errors import Code, EchoFedError
from shared.shapes import expect

Points = npt.NDArray[np.float64]

MIN_POINTS = 7
"""Two base points, the apex and two on each wall: five lose 8 % of a ventricle's volume."""
MAX_POINTS = 1024
"""A tenth of a millimetre apart on an adult's heart; whether edges cross is asked of each pair."""
_MAX_GAP = 0.6  # of the long axis between two neighbours; of seven points they lie up to 0.5 apart


@dataclass(frozen=True, slots=True, eq=False)
class Contour:
    """A ventricle's outline in one frame; the straight base line from last to first closes it.

    Args:
        points_xy_mm: (P, 2) float64, x to the right and y down; the first is the base point on the
            left of the picture, the last the one on its right.
        apex: index of the apex.
        view: id of the view in the ontology.
        frame: index in its clip.
        mm_per_pixel: spacing of (rows, columns) of the picture it was found on.
        covariance: (2P, 2P) in mm^2 of (x0, y0, x1, y1, ...), None where unknown. Points along a
            curve err together: a diagonal here makes intervals too narrow.

    Raises:
        EchoFedError: SHAPE_MISMATCH, SPACING_MISSING, or CONTOUR_INVALID for a contour that is
            open, crosses itself or holds what is no number.
    """

    points_xy_mm: Points
    apex: int
    view: str
    frame: int
    mm_per_pixel: MillimetresPerPixel
    covariance: Points | None = None

    def __post_init__(self) -> None:
        """Refuse what is no contour."""
        num = expect(self.points_xy_mm, "P xy", xy=2)["P"]
        if self.covariance is not None:
            expect(self.covariance, "xP xQ", xP=2 * num, xQ=2 * num)
        require_spacing(self.mm_per_pixel)
        fault = _fault(self.points_xy_mm, self.apex, self.covariance)
        if fault:
            raise EchoFedError(
                Code.CONTOUR_INVALID,
                f"the contour of {self.view} in frame {self.frame} {fault}",
                "trace it from base to base over the apex",
            )

    @property
    def apex_xy_mm(self) -> Points:
        """The apex, (2,)."""
        apex: Points = self.points_xy_mm[self.apex]
        return apex

    @property
    def base_xy_mm(self) -> Points:
        """The two base points, (2, 2)."""
        return self.points_xy_mm[[0, -1]]

    @property
    def long_axis_mm(self) -> float:
        """From the middle of the base line to the apex."""
        return long_axis_mm(self.points_xy_mm, self.apex)

    @property
    def length_mm(self) -> float:
        """Along the wall from base to base, without the base line."""
        return length_mm(self.points_xy_mm)

    @property
    def area_mm2(self) -> float:
        """Enclosed by the wall and the base line."""
        return area_mm2(self.points_xy_mm)


def require_spacing(mm_per_pixel: MillimetresPerPixel | None) -> MillimetresPerPixel:
    """The spacing, where there is one.

    Raises:
        EchoFedError: SPACING_MISSING where it is unknown, not positive or not finite.
    """
    if mm_per_pixel is None or not all(np.isfinite(s) and s > 0 for s in mm_per_pixel):
        raise EchoFedError(
            Code.SPACING_MISSING,
            f"the spacing is {mm_per_pixel}, so there are no millimetres",
            "give the mm per pixel of rows and columns",
        )
    return mm_per_pixel


def long_axis_mm(points_P2: Points, apex: int) -> float:
    """From the middle between first and last point to the apex."""
    return float(np.hypot(*(points_P2[apex] - (points_P2[0] + points_P2[-1]) / 2)))


def length_mm(points_P2: Points) -> float:
    """Length of the open line through the points."""
    return float(np.hypot(*np.diff(points_P2, axis=0).T).sum())


def area_mm2(points_P2: Points) -> float:
    """Area of the closed polygon (shoelace), whichever way round it runs."""
    x, y = (points_P2 - points_P2[0]).T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def _fault(points_P2: Points, apex: int, covariance: Points | None) -> str:
    """What is wrong with a contour, empty where nothing is."""
    if not MIN_POINTS <= len(points_P2) <= MAX_POINTS:
        return f"has {len(points_P2)} points, not {MIN_POINTS} to {MAX_POINTS}"
    if not np.isfinite(points_P2).all():
        return "holds a coordinate that is no number"
    if not 0 < apex < len(points_P2) - 1:
        return "is open: its apex is one of its ends"
    steps = np.hypot(*np.diff(points_P2, axis=0).T)
    if steps.max() >= _MAX_GAP * long_axis_mm(points_P2, apex):
        return f"is open: two neighbours are {steps.max():.0f} mm apart"
    if crosses_itself(points_P2):
        return "crosses itself"
    if covariance is not None and not _is_covariance(covariance):
        return "has a covariance that is none"
    return ""


def crosses_itself(points_P2: Points) -> bool:
    """Whether two edges of the closed polygon cross."""
    start, end = points_P2, np.roll(points_P2, -1, axis=0)
    starts_at = _side(start[:, None], end[:, None], start[None])
    ends_at = _side(start[:, None], end[:, None], end[None])
    parts = starts_at * ends_at < 0
    return bool((parts & parts.T).any())


def _side(start: Points, end: Points, point: Points) -> Points:
    """Twice the signed area of a triangle; touching at an end is no crossing, so 0 stays 0."""
    along, offset = end - start, point - start
    out: Points = along[..., 0] * offset[..., 1] - along[..., 1] * offset[..., 0]
    return out


def _is_covariance(covariance: Points) -> bool:
    if not np.isfinite(covariance).all() or not np.allclose(covariance, covariance.T):
        return False
    lowest, *_, highest = np.linalg.eigvalsh(covariance)
    return bool(lowest >= -1e-9 * max(float(highest), 1e-9))
