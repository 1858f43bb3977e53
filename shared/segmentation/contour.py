"""One contour from two heads: a spline through the landmarks, moved onto the distance map's zero.

A contour is open: from one base point over the apex to the other. Points are (x, y) in mm from the
centre of the first pixel, x to the right and y down; everything is float64.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline, RectBivariateSpline

from shared.echo.contour import crosses_itself
from shared.echo.frame import MillimetresPerPixel
from shared.errors import Code, EchoFedError
from shared.shapes import expect

Array = NDArray[np.float64]
_FINE = 2000  # places at which a spline's length is summed; its error is below 1e-5 of the length
_STEP_MM = 5.0  # of one move at most: beyond it a map's gradient says little about its zero


@dataclass(frozen=True, slots=True, eq=False)
class FusedContour:
    """A contour that both heads had a part in.

    Args:
        points_xy_mm_P2: equidistant points from base over apex to base.
        apex: index of the apex.
        covariance_mm2: (2P, 2P) of (x0, y0, x1, y1, ...): that of the landmarks' spline. What the
            map adds is not counted, so across the contour it errs on the wide side.
        disagreement_mm: mean distance of the landmarks' spline from the map's zero.
        residual_mm: the same of the contour; above zero where a landmark held it back.
    """

    points_xy_mm_P2: Array
    apex: int
    covariance_mm2: Array
    disagreement_mm: float
    residual_mm: float


def fuse_heads(
    landmarks_xy_mm_K2: Array,
    covariance_mm2_K22: Array,
    distance_mm_HW: Array,
    mm_per_pixel: MillimetresPerPixel,
    *,
    num_points: int = 41,
    max_sigma: float = 2.0,
) -> FusedContour:
    """Spline through the landmarks, its points moved onto the map's zero, and again a spline.

    Moving the points of the densified curve instead of the landmarks is what makes the curve as
    good as the map between them. Both base points and the apex move no further than their
    covariance allows: near the mitral plane the map's zero turns from the wall to the base line,
    and a base point would slide along it. Where the moved curve would cross itself, the spline
    through the landmarks stays.

    Args:
        landmarks_xy_mm_K2: in order along the contour; the apex is the middle one.
        covariance_mm2_K22: of each landmark.
        distance_mm_HW: signed distance map, negative inside.
        mm_per_pixel: spacing of (rows, columns).
        num_points: of the contour.
        max_sigma: how many standard deviations base points and apex may move.

    Raises:
        EchoFedError: SHAPE_MISMATCH for landmarks of which one is unknown or two neighbours agree.
    """
    num = expect(landmarks_xy_mm_K2, "K C", C=2)["K"]
    expect(covariance_mm2_K22, "K C D", K=num, C=2, D=2)
    curve = spline_through(landmarks_xy_mm_K2, num_points)
    moved = project_to_zero(curve, distance_mm_HW, mm_per_pixel)
    apex = _nearest(curve, landmarks_xy_mm_K2[num // 2])
    for point, landmark in ((0, 0), (apex, num // 2), (-1, num - 1)):
        moved[point] = _held(
            moved[point], curve[point], covariance_mm2_K22[landmark], max_sigma=max_sigma
        )
    contour = spline_through(moved, num_points)
    if crosses_itself(contour):  # the map's zero is torn: it says less than the landmarks
        contour, moved = curve, curve
    surface = _surface(distance_mm_HW, mm_per_pixel)
    return FusedContour(
        contour,
        _nearest(contour, moved[apex]),
        spline_covariance(landmarks_xy_mm_K2, covariance_mm2_K22, num_points),
        disagreement_mm=float(np.abs(_look(surface, curve)[0]).mean()),
        residual_mm=float(np.abs(_look(surface, contour)[0]).mean()),
    )


def spline_through(points_xy_mm_K2: Array, num_points: int) -> Array:
    """Equidistant points (P, 2) on the cubic spline through the given ones, ends included.

    The parameter is the length of the chords; the third derivative is continuous at the second and
    the last but one knot. A point that repeats its neighbour is passed over.

    Raises:
        EchoFedError: SHAPE_MISMATCH for points of which one is unknown or no two differ.
    """
    spline, even = _even_spline(points_xy_mm_K2, num_points)
    out: Array = spline(even)
    return out


def spline_covariance(
    landmarks_xy_mm_K2: Array, covariance_mm2_K22: Array, num_points: int
) -> Array:
    """Covariance (2P, 2P) of ``spline_through``'s points where landmarks err independently.

    A spline is linear in its landmarks for fixed knots: ``C = (W x I) diag(S_1 .. S_K) (W x I)^T``
    with the spline W through each unit vector. That the knots move too shifts points along the
    curve, not across it.

    Raises:
        EchoFedError: SHAPE_MISMATCH for landmarks of which one is unknown or two neighbours agree.
    """
    num = expect(covariance_mm2_K22, "K C D", C=2, D=2)["K"]
    spline, even = _even_spline(landmarks_xy_mm_K2, num_points)
    expect(spline.x[:, None], "K one", K=num)
    weights_PK = CubicSpline(spline.x, np.eye(num))(even)
    blocks = np.einsum("pk,qk,kcd->pcqd", weights_PK, weights_PK, covariance_mm2_K22)
    out: Array = blocks.reshape(2 * num_points, 2 * num_points)
    return out


def landmarks_on(curve_xy_mm_P2: Array, num_landmarks: int) -> Array:
    """Landmarks of a densely sampled contour: its ends, the apex, the others between (K, 2).

    The apex is the point farthest from the middle between the ends; on each wall the landmarks
    are equidistant along the curve.

    Raises:
        EchoFedError: CONFIG_INVALID for a number that is even or below three.
    """
    expect(curve_xy_mm_P2, "P C", C=2)
    if num_landmarks < 3 or num_landmarks % 2 == 0:
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"{num_landmarks} landmarks cannot be two base points, an apex and as many a wall",
            "take 5, 7, 9 or 11",
        )
    middle = (curve_xy_mm_P2[0] + curve_xy_mm_P2[-1]) / 2.0
    apex = int(np.argmax(((curve_xy_mm_P2 - middle) ** 2).sum(axis=1)))
    each = num_landmarks // 2 + 1
    first = spline_through(curve_xy_mm_P2[: apex + 1], each)
    second = spline_through(curve_xy_mm_P2[apex:], each)
    return np.concatenate([first, second[1:]])


def project_to_zero(
    points_xy_mm_P2: Array,
    level_HW: Array,
    mm_per_pixel: MillimetresPerPixel,
    *,
    num_steps: int = 5,
) -> Array:
    """Points moved along the map's gradient onto its zero (P, 2).

    ``x <- x - D grad D / |grad D|^2``, Newton's method for one equation in two unknowns with the
    shortest step; it squares the error at every step and does not mind the map's scale. Between
    the pixels' centres the map is a bicubic spline. A step is 5 mm at most.

    Args:
        points_xy_mm_P2: where to start; within the picture.
        level_HW: any smooth map whose zero is the contour, four pixels a side at least.
        mm_per_pixel: spacing of (rows, columns).
        num_steps: moves.
    """
    expect(points_xy_mm_P2, "P C", C=2)
    surface = _surface(level_HW, mm_per_pixel)
    points = points_xy_mm_P2.astype(np.float64)
    farthest_mm = float(np.hypot(*np.multiply(level_HW.shape, mm_per_pixel)))
    for _ in range(num_steps):
        level, gradient = _look(surface, points)
        slope = np.sqrt((gradient**2).sum(axis=1))
        # by this slope the zero would lie outside the picture: the map says nothing here
        is_flat = np.abs(level) >= slope * farthest_mm
        steepest = gradient / np.where(is_flat, 1.0, slope)[:, None]
        step_mm = np.where(is_flat, 0.0, level / np.where(is_flat, 1.0, slope))
        points = points - np.clip(step_mm, -_STEP_MM, _STEP_MM)[:, None] * steepest
    return points


def _even_spline(points_xy_mm_K2: Array, num_points: int) -> tuple[CubicSpline, Array]:
    """The spline through the points and its parameter at equal steps of arc length (P,)."""
    expect(points_xy_mm_K2, "K C", C=2)
    chords = np.sqrt((np.diff(points_xy_mm_K2, axis=0) ** 2).sum(axis=1))
    is_new = np.append(True, chords > 0.0)
    points = points_xy_mm_K2[is_new]
    if len(points) < 2 or not np.isfinite(points_xy_mm_K2).all():
        raise EchoFedError(
            Code.SHAPE_MISMATCH,
            "a contour needs two different places at least, and all its landmarks known",
            "the frame does not show the structure, or the network was not trained on its view",
        )
    knots = np.append(0.0, np.cumsum(chords[is_new[1:]]))
    spline = CubicSpline(knots, points)
    fine = np.linspace(0.0, knots[-1], _FINE + 1)
    lengths = np.sqrt((np.diff(spline(fine), axis=0) ** 2).sum(axis=1))
    along = np.append(0.0, np.cumsum(lengths))
    return spline, np.interp(np.linspace(0.0, along[-1], num_points), along, fine)


def _nearest(points_P2: Array, place_2: Array) -> int:
    """Index of the point that is nearest to a place."""
    return int(np.argmin(((points_P2 - place_2) ** 2).sum(axis=1)))


def _surface(level_HW: Array, mm_per_pixel: MillimetresPerPixel) -> RectBivariateSpline:
    """The bicubic spline of a map over (y, x) in mm."""
    sizes = expect(level_HW, "H W")
    rows_mm = np.arange(sizes["H"]) * mm_per_pixel[0]
    columns_mm = np.arange(sizes["W"]) * mm_per_pixel[1]
    return RectBivariateSpline(rows_mm, columns_mm, level_HW)


def _look(surface: RectBivariateSpline, points_P2: Array) -> tuple[Array, Array]:
    """Value (P,) and gradient (P, 2) by (x, y)."""
    x, y = points_P2.T
    gradient = np.stack([surface.ev(y, x, dy=1), surface.ev(y, x, dx=1)], axis=1)
    return surface.ev(y, x), gradient


def _held(moved_2: Array, start_2: Array, covariance_22: Array, *, max_sigma: float) -> Array:
    """The end of a move, drawn back to where its Mahalanobis length is the largest allowed."""
    move = moved_2 - start_2
    if not move.any():
        return moved_2
    # half a micrometre squared: a covariance of zero holds its point, without dividing by zero
    spread = covariance_22 + 2.5e-7 * np.eye(2)
    sigmas = float(np.sqrt(move @ np.linalg.solve(spread, move)))
    held: Array = start_2 + move * min(1.0, max_sigma / sigmas)
    return held
