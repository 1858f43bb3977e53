"""Sector detection: where the ultrasound fan lies in a clip, from its pixels and the scanner's 2-D region.

Tissue moves and is connected; screen furniture stands still or is thin. The convex hull of the largest solid component
is fitted by a fan: two straight sides that meet in the apex, and two arcs around it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize
from scipy.spatial import ConvexHull, QhullError

from shared.echo.sector import Fan, SectorMask

MIN_CONFIDENCE = 0.5
"""Below this a mask is not worth having."""
_MAX_FRAMES = 12  # frames looked at; more change nothing
_GRID = 144  # longest side of the grid on which the component is found
_LIT = 5  # grey levels above the screen's own black
_DENSITY = 0.3  # share of lit pixels of a solid cell; text and traces have less after opening
_FAN_AGREEMENT = 0.86  # IoU of fan and hull from which the fan is believed
_MIN_AREA = 0.04  # of the region; less is a logo or a trace
_SIDE_DEG = (4.0, 80.0)  # angle of a fan's side from straight down
_INSIDE_WEIGHT = 0.5  # hull points inside the fan count half: dropout hides tissue, nothing invents it


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle of the screen; ends are exclusive."""

    row_start: int
    row_end: int
    column_start: int
    column_end: int

    def slices(self) -> tuple[slice, slice]:
        """Index of the rectangle in (rows, columns)."""
        return slice(self.row_start, self.row_end), slice(self.column_start, self.column_end)

    def area(self) -> int:
        """Number of pixels."""
        return (self.row_end - self.row_start) * (self.column_end - self.column_start)


def detect_sector(pixels_THW: NDArray[np.uint8], region: Region | None) -> SectorMask | None:
    """Find the sector of a clip.

    Args:
        pixels_THW: grey frames.
        region: the scanner's 2-D region, None for the whole screen.

    Returns:
        The mask, with a fan where one fits and a hull where none does; None where nothing looks like a sector.
    """
    size_HW = (pixels_THW.shape[1], pixels_THW.shape[2])
    region = region or Region(0, size_HW[0], 0, size_HW[1])
    step = max(1, -(-max(size_HW) // _GRID))
    solid = _largest_solid(_lit_share(pixels_THW, region, step))
    if solid is None or solid.mean() < _MIN_AREA:
        return None
    points_rc = _hull(solid)
    if points_rc is None:
        return None
    hull = _fill(points_rc, solid.shape)
    origin = np.array([region.row_start, region.column_start])
    fan = _fit_fan(points_rc, solid)
    agreement = _iou(fan.mask(solid.shape), hull) if fan else 0.0
    inside = np.zeros(size_HW, dtype=np.bool_)
    inside[region.slices()] = True
    if fan and agreement >= _FAN_AGREEMENT:
        fan = _scale(fan, step, origin)
        return SectorMask(fan.mask(size_HW) & inside, fan, round(agreement, 3))
    solidity = float(solid.sum() / hull.sum())
    if solidity < MIN_CONFIDENCE:
        return None
    outline_rc = points_rc * step + (step - 1) / 2 + origin
    return SectorMask(_fill(outline_rc, size_HW) & inside, None, round(0.9 * solidity, 3))


def _lit_share(
    pixels_THW: NDArray[np.uint8], region: Region, step: int
) -> NDArray[np.float64]:
    """Share of each cell's pixels that show tissue: above black, and changing where there is a cine."""
    chosen = np.unique(np.linspace(0, len(pixels_THW) - 1, _MAX_FRAMES).round().astype(int))
    frames_THW = pixels_THW[chosen][(slice(None), *region.slices())]
    peak = frames_THW.max(axis=0)
    black = int(np.bincount(frames_THW[0].ravel(), minlength=256)[:64].argmax())
    lit = peak > black + _LIT
    if len(chosen) > 3:
        moving = peak - frames_THW.min(axis=0) > _LIT
        if moving.mean() > _MIN_AREA:
            lit &= moving
    rows, columns = (-(-size // step) * step for size in lit.shape)
    padded = np.zeros((rows, columns))
    padded[: lit.shape[0], : lit.shape[1]] = lit
    return padded.reshape(rows // step, step, columns // step, step).mean(axis=(1, 3))


def _largest_solid(share: NDArray[np.float64]) -> NDArray[np.bool_] | None:
    """The largest component after thin things are gone, holes filled."""
    cells = ndimage.binary_closing(np.pad(share > _DENSITY, 3), np.ones((3, 3)), iterations=2)
    cells = ndimage.binary_opening(cells, np.ones((3, 3)), iterations=2)[3:-3, 3:-3]
    labels, count = ndimage.label(cells)
    if count == 0:
        return None
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    filled: NDArray[np.bool_] = ndimage.binary_fill_holes(labels == sizes.argmax())
    return filled


def _hull(solid: NDArray[np.bool_]) -> NDArray[np.float64] | None:
    """Corners of the convex hull (P, 2) as (row, column), in order around it."""
    points_rc = np.argwhere(solid).astype(np.float64)
    try:
        return points_rc[ConvexHull(points_rc).vertices]
    except QhullError:
        return None


def _fill(points_rc: NDArray[np.float64], size_HW: tuple[int, ...]) -> NDArray[np.bool_]:
    """Pixels inside a convex polygon whose corners go around once."""
    rows, columns = np.mgrid[0 : size_HW[0], 0 : size_HW[1]]
    inside = np.ones(size_HW, dtype=np.bool_)
    ahead_rc = np.roll(points_rc, -1, axis=0)
    turn = np.sign(_cross(points_rc - points_rc.mean(axis=0), ahead_rc - points_rc).sum())
    for (row, column), (row_1, column_1) in zip(points_rc, ahead_rc, strict=True):
        side = (rows - row) * (column_1 - column) - (columns - column) * (row_1 - row)
        inside &= side * turn <= 1e-6
    return inside


def _cross(a_rc: NDArray[np.float64], b_rc: NDArray[np.float64]) -> NDArray[np.float64]:
    return a_rc[:, 0] * b_rc[:, 1] - a_rc[:, 1] * b_rc[:, 0]


def _fit_fan(points_rc: NDArray[np.float64], solid: NDArray[np.bool_]) -> Fan | None:
    """Fit apex and sides to the hull, then the arcs to the component; None where the hull has no two sides."""
    outline_rc = _resample(points_rc, 160)
    start = _sides(points_rc)
    if start is None:
        return None
    height, width = solid.shape
    at_edge = (
        (outline_rc[:, 0] < 1)
        | (outline_rc[:, 0] > height - 2)
        | (outline_rc[:, 1] < 1)
        | (outline_rc[:, 1] > width - 2)
    )
    apex_rc = start[:2]
    radius = np.hypot(*(outline_rc - apex_rc).T)
    is_top = radius < radius.min() + 0.12 * (radius.max() - radius.min())
    use_rc = outline_rc[~at_edge & ~is_top]
    if len(use_rc) < 40:
        return None
    fitted = optimize.least_squares(
        _residuals,
        np.append(start, np.quantile(radius, 0.95)),
        args=(use_rc,),
        loss="soft_l1",
        f_scale=1.0,
        x_scale=(height, width, 0.5, 0.5, height),
        max_nfev=40,
    ).x
    return _with_arcs(fitted, solid)


def _resample(points_rc: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Evenly spaced points along a closed polygon."""
    closed_rc = np.vstack([points_rc, points_rc[:1]])
    lengths = np.hypot(*np.diff(closed_rc, axis=0).T)
    along = np.append(0.0, lengths.cumsum())
    at = np.linspace(0.0, along[-1], count, endpoint=False)
    return np.stack([np.interp(at, along, closed_rc[:, axis]) for axis in (0, 1)], axis=1)


def _sides(points_rc: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Apex row and column and the two angles (rad) of the hull's longest straight left and right sides."""
    edges_rc = np.roll(points_rc, -1, axis=0) - points_rc
    turn = np.sign(_cross(points_rc - points_rc.mean(axis=0), edges_rc).sum())
    lines = []
    for outward in (-1.0, 1.0):
        normals_rc = np.stack([-edges_rc[:, 1], edges_rc[:, 0]], axis=1) * -turn
        down_rc = edges_rc * np.sign(edges_rc[:, :1] + 1e-9)
        angle = np.arctan2(down_rc[:, 1], down_rc[:, 0])
        steep = np.degrees(np.abs(angle))
        fits = (
            (normals_rc[:, 1] * outward > 0)
            & (angle * outward > 0)
            & (steep > _SIDE_DEG[0])
            & (steep < _SIDE_DEG[1])
            & (normals_rc[:, 0] < 0)
        )
        if not fits.any():
            return None
        length = np.hypot(*edges_rc.T) * fits
        near = np.abs(angle[:, None] - angle[None, :]) < np.radians(5)
        best = int((near * length[None, :]).sum(axis=1).argmax())
        members = near[best] & fits
        middle_rc = np.average(
            points_rc[members] + edges_rc[members] / 2, axis=0, weights=length[members]
        )
        lines.append((middle_rc, float(np.average(angle[members], weights=length[members]))))
    (left_rc, left), (right_rc, right) = lines
    slopes = np.array([np.tan(left), np.tan(right)])
    if slopes[1] - slopes[0] < 0.05:
        return None
    offsets = np.array(
        [left_rc[1] - slopes[0] * left_rc[0], right_rc[1] - slopes[1] * right_rc[0]]
    )
    row = (offsets[0] - offsets[1]) / (slopes[1] - slopes[0])
    return np.array([row, offsets[0] + slopes[0] * row, left, right])


def _residuals(
    parameters: NDArray[np.float64], points_rc: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Signed distance of each point from the fan's outline without its upper arc; positive outside."""
    row, column, left, right, radius_max = parameters
    down, across = points_rc[:, 0] - row, points_rc[:, 1] - column
    beyond_left = down * np.sin(left) - across * np.cos(left)
    beyond_right = across * np.cos(right) - down * np.sin(right)
    beyond_arc = np.hypot(down, across) - radius_max
    distance = np.maximum(np.maximum(beyond_left, beyond_right), beyond_arc)
    return np.where(distance < 0, _INSIDE_WEIGHT * distance, distance)


def _with_arcs(parameters: NDArray[np.float64], solid: NDArray[np.bool_]) -> Fan | None:
    """Take both radii from the component, direction by direction; dropout shortens, nothing lengthens."""
    row, column, left, right, _ = (float(value) for value in parameters)
    rows, columns = np.nonzero(solid)
    down, across = rows - row, columns - column
    angle, radius = np.arctan2(across, down), np.hypot(down, across)
    inside = (angle > left) & (angle < right)
    if right - left < 0.1 or not inside.any():
        return None
    place = ((angle[inside] - left) / (right - left) * 24).astype(int)
    ends = [radius[inside][place == index] for index in range(2, 22) if (place == index).any()]
    if len(ends) < 12:
        return None
    nearest = float(np.quantile([values.min() for values in ends], 0.3))
    farthest = float(np.quantile([values.max() for values in ends], 0.8))
    return Fan(
        (row, column),
        float(np.degrees(left)),
        float(np.degrees(right)),
        max(0.0, nearest - 0.5),
        farthest + 0.5,
    )


def _scale(fan: Fan, step: int, origin_rc: NDArray[np.int_]) -> Fan:
    """From cells of the grid to pixels of the screen."""
    middle = (step - 1) / 2
    return Fan(
        (
            fan.apex_rc[0] * step + middle + float(origin_rc[0]),
            fan.apex_rc[1] * step + middle + float(origin_rc[1]),
        ),
        fan.angle_min_deg,
        fan.angle_max_deg,
        fan.radius_min_px * step,
        fan.radius_max_px * step,
    )


def _iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))
