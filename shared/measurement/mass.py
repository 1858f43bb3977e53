"""Mass of the left ventricle and relative wall thickness, at end diastole.

Linear method: 0.8 * 1.04 * [(LVIDd + PWTd + IVSd)^3 - LVIDd^3] + 0.6 g with lengths in cm (ASE cube
formula). From contours: 1.05 g/ml times the volume between epicardium and endocardium.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shared.echo.contour import Contour, Points, require_spacing
from shared.echo.frame import MillimetresPerPixel
from shared.echo.measurement import Measurement
from shared.errors import Code, EchoFedError
from shared.measurement.interval import measure
from shared.measurement.simpson import Method, require_same_views, require_views, volume_ml
from shared.shapes import expect

_MM_PER_CM = 10.0
_CONTOUR_DENSITY = 1.05  # g/ml, of the area-length mass formulas


@dataclass(frozen=True, slots=True, eq=False)
class Calipers:
    """The four points of the linear dimensions, on one line across the ventricle.

    Args:
        points_xy_mm: (4, 2): right-hand face of the septum, its face to the cavity, the posterior
            wall's face to the cavity, its epicardium.
        view: id of the view.
        frame: index in its clip.
        mm_per_pixel: spacing of (rows, columns).
        covariance: (8, 8) in mm^2 of (x0, y0, x1, ...), None where unknown.

    Raises:
        EchoFedError: SHAPE_MISMATCH, SPACING_MISSING, or CONTOUR_INVALID where the points are no
            numbers or do not follow each other.
    """

    points_xy_mm: Points
    view: str
    frame: int
    mm_per_pixel: MillimetresPerPixel
    covariance: Points | None = None

    def __post_init__(self) -> None:
        """Refuse points that span no walls."""
        expect(self.points_xy_mm, "P xy", P=4, xy=2)
        if self.covariance is not None:
            expect(self.covariance, "xP xQ", xP=8, xQ=8)
        require_spacing(self.mm_per_pixel)
        steps = np.diff(self.points_xy_mm, axis=0) @ (self.points_xy_mm[3] - self.points_xy_mm[0])
        if not (steps > 0).all():
            raise EchoFedError(
                Code.CONTOUR_INVALID,
                f"the calipers of {self.view} in frame {self.frame} do not follow each other",
                "give septum, cavity and posterior wall from the right ventricle on",
            )


def measure_linear_mass(calipers: Calipers) -> Measurement:
    """LV mass in g by the cube formula; it cubes every error of a length."""
    return measure(
        "LV mass",
        "g",
        lambda points: cube_mass_g(*_lengths_mm(points[0])),
        [calipers],
        method="cube formula of the linear dimensions",
    )


def measure_rwt(calipers: Calipers) -> Measurement:
    """Relative wall thickness, 2 PWTd / LVIDd."""

    def ratio(points: Sequence[Points]) -> float:
        _, cavity_mm, wall_mm = _lengths_mm(points[0])
        return 2 * wall_mm / cavity_mm

    return measure("RWT", "1", ratio, [calipers], method="2 PWTd / LVIDd")


def measure_contour_mass(
    endocardium: Sequence[Contour], epicardium: Sequence[Contour], method: Method = "disks"
) -> Measurement:
    """LV mass in g from the contours of both faces of the wall, in one apical view or A4C and A2C.

    Raises:
        EchoFedError: VIEWS_UNFIT, or CONTOUR_INVALID where the outer volume is not the larger.
    """
    require_same_views(endocardium, epicardium)
    require_views(endocardium, method)
    half = len(endocardium)
    both = [*endocardium, *epicardium]
    apexes = [contour.apex for contour in both]

    def mass_g(points: Sequence[Points]) -> float:
        inner = volume_ml(points[:half], apexes[:half], method)
        return _CONTOUR_DENSITY * (volume_ml(points[half:], apexes[half:], method) - inner)

    found = measure("LV mass", "g", mass_g, both, method=f"1.05 g/ml between contours by {method}")
    if found.value <= 0:
        raise EchoFedError(
            Code.CONTOUR_INVALID,
            "the epicardium encloses no more than the endocardium",
            "give the inner contours first",
        )
    return found


def cube_mass_g(septum_mm: float, cavity_mm: float, wall_mm: float) -> float:
    """The ASE cube formula."""
    outer_cm = (septum_mm + cavity_mm + wall_mm) / _MM_PER_CM
    return 0.8 * 1.04 * (outer_cm**3 - (cavity_mm / _MM_PER_CM) ** 3) + 0.6


def _lengths_mm(points_42: Points) -> tuple[float, float, float]:
    """Septum, cavity and posterior wall."""
    septum, cavity, wall = np.hypot(*np.diff(points_42, axis=0).T)
    return float(septum), float(cavity), float(wall)
