"""Sector detection: where the ultrasound fan lies in a clip, from its pixels and its 2-D region.

Tissue moves and is connected; screen furniture stands still or is thin. The convex hull of the
largest solid component is fitted by a fan: two straight sides that meet in the apex, and two arcs
around it. The fit is made on a coarse grid and sharpened on the pixels.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from shared.echo.outline import Points, fit_fan_outline, is_fan, sides_of
from shared.echo.sector import Fan, SectorMask

MIN_CONFIDENCE = 0.7
"""Below this a hull is not worth having."""
_MAX_FRAMES = 12  # frames looked at; more change nothing
_FINE = 320  # longest side from twice which on pixels are joined before anything is looked for
_GRID = 120  # longest side of the grid on which the component is found
_LIT = 5  # grey levels above the screen's own black
_DENSITIES = (0.75, 0.3)  # share of lit pixels of a solid cell: clean tissue first, then sparse
_MIN_AREA = 0.04  # of the region; less is a logo or a trace
_MIN_COVER, _MIN_FIT = 0.94, 0.86  # share of the hull inside the fan; that and how full the fan is
_AREA_POWER = 0.25  # of two fits the larger one wins unless it is clearly worse
_ON_SCREEN = 0.8  # share of a fan that lies in its region; spectra and M-mode fit only larger ones

Mask = NDArray[np.bool_]


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
        The mask, with a fan where one fits; a convex hull where none does but the scanner says
        that the region is 2-D (a linear probe); else None, because a hull could hold text.
    """
    size_HW = (pixels_THW.shape[1], pixels_THW.shape[2])
    is_declared = region is not None
    region = region or Region(0, size_HW[0], 0, size_HW[1])
    lit, alive = _lit(pixels_THW, region)
    reduced = max(1, max(lit.shape) // _FINE)
    if reduced > 1:
        lit, alive = _shrink(lit, reduced) > 0.5, _shrink(alive, reduced) > 0.5
    step = max(1, -(-max(lit.shape) // _GRID))
    share = _shrink(alive, step)
    found = [_fit(share, density) for density in _DENSITIES]
    best = max(found, key=lambda trial: trial.confidence * trial.area**_AREA_POWER)
    inside = np.zeros(size_HW, dtype=np.bool_)
    if best.fan is not None:
        fan = _scale(_sharpen(_scale(best.fan, step), lit, step), reduced)
        fan = _shift(fan, region)
        inside[region.slices()] = fan.mask(size_HW)[region.slices()]
        if inside.sum() >= _ON_SCREEN * _area(fan):
            return SectorMask(inside, fan, round(best.confidence, 3))
    hull = max(found, key=lambda trial: trial.solidity)
    if hull.solidity < MIN_CONFIDENCE or not is_declared:
        return None
    cell = step * reduced
    outward_rc = np.sign(hull.corners_rc - hull.corners_rc.mean(axis=0)) * cell / 2
    corners_rc = hull.corners_rc * cell + (cell - 1) / 2 + outward_rc
    inside[region.slices()] = _fill(corners_rc, inside[region.slices()].shape)
    return SectorMask(inside, None, round(hull.solidity, 3))


@dataclass(frozen=True, slots=True, eq=False)
class _Trial:
    """What one density gave, in cells of the grid."""

    corners_rc: Points
    solidity: float
    area: float
    fan: Fan | None = None
    confidence: float = 0.0


_NOTHING = _Trial(np.empty((0, 2)), 0.0, 0.0)


def _lit(pixels_THW: NDArray[np.uint8], region: Region) -> tuple[Mask, Mask]:
    """Pixels of the region above the screen's black, and those that also change in a cine."""
    chosen = np.unique(np.linspace(0, len(pixels_THW) - 1, _MAX_FRAMES).round().astype(int))
    frames_THW = pixels_THW[chosen][(slice(None), *region.slices())]
    peak = frames_THW.max(axis=0)
    black = int(np.bincount(frames_THW[0].ravel(), minlength=256)[:64].argmax())
    lit: Mask = peak > black + _LIT
    if len(chosen) > 3:
        moving = peak - frames_THW.min(axis=0) > _LIT
        if moving.mean() > _MIN_AREA:
            return lit, lit & moving
    return lit, lit


def _shrink(mask: Mask, step: int) -> NDArray[np.float64]:
    """Share of lit pixels in each cell."""
    rows, columns = (-(-size // step) * step for size in mask.shape)
    padded = np.zeros((rows, columns), dtype=np.float32)
    padded[: mask.shape[0], : mask.shape[1]] = mask
    cells = padded.reshape(rows // step, step, columns // step, step).mean(axis=(1, 3))
    return np.asarray(cells, dtype=np.float64)


def _fit(share: NDArray[np.float64], density: float) -> _Trial:
    """Component, hull and fan at one density."""
    solid = _largest_solid(share > density, closing=2 if density < 0.5 else 1)
    if solid.mean() < _MIN_AREA:
        return _NOTHING
    corners_rc = _hull(solid)
    if len(corners_rc) < 4:
        return _NOTHING
    hull = _fill(corners_rc, solid.shape)
    area = float(hull.sum())
    solidity = float(solid.sum() / area)
    fan = _fit_fan(corners_rc, solid)
    if fan is None:
        return _Trial(corners_rc, solidity, area)
    mask = fan.mask((solid.shape[0], solid.shape[1]))
    cover = float((hull & mask).sum() / hull.sum())
    fit = cover * float((hull & mask).sum() / max(1, mask.sum())) ** 0.5
    is_good = cover >= _MIN_COVER and fit >= _MIN_FIT
    plain = _Trial(corners_rc, solidity, area)
    return replace(plain, fan=fan, confidence=fit) if is_good else plain


def _largest_solid(cells: Mask, closing: int) -> Mask:
    """The largest component after thin things are gone, holes filled."""
    square = np.ones((3, 3))
    closed = ndimage.binary_closing(np.pad(cells, 3), square, iterations=closing)
    opened = ndimage.binary_opening(closed, square, iterations=2)[3:-3, 3:-3]
    labels, _ = ndimage.label(opened)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    filled: Mask = ndimage.binary_fill_holes((labels == sizes.argmax()) & opened)
    return filled


def _hull(solid: Mask) -> Points:
    """Corners of the convex hull (P, 2) as (row, column), in order around it."""
    first = solid.argmax(axis=1)
    last = solid.shape[1] - 1 - solid[:, ::-1].argmax(axis=1)
    rows = np.flatnonzero(solid.any(axis=1))
    ends = np.concatenate([first[rows], last[rows]])
    points_rc = np.stack([np.tile(rows, 2), ends], axis=1).astype(np.float64)
    try:
        corners: Points = points_rc[ConvexHull(points_rc).vertices]
    except QhullError:
        return np.empty((0, 2))
    return corners


def _fill(corners_rc: Points, size_HW: tuple[int, ...]) -> Mask:
    """Pixels inside a polygon, its outline included."""
    canvas = Image.new("L", (size_HW[1], size_HW[0]))
    outline_xy = [(float(column), float(row)) for row, column in corners_rc]
    ImageDraw.Draw(canvas).polygon(outline_xy, fill=1, outline=1)
    return np.asarray(canvas, dtype=np.bool_)


def _fit_fan(corners_rc: Points, solid: Mask) -> Fan | None:
    """Fit apex and sides to the hull, then the arcs to the component."""
    start = sides_of(corners_rc)
    if start is None:
        return None
    outline_rc = _resample(corners_rc, 160)
    height, width = solid.shape
    rows, columns = outline_rc.T
    at_edge = (rows < 1) | (rows > height - 2) | (columns < 1) | (columns > width - 2)
    radius = np.hypot(*(outline_rc - start[:2]).T)
    is_top = radius < radius.min() + 0.12 * (radius.max() - radius.min())
    use_rc = outline_rc[~at_edge & ~is_top]
    if len(use_rc) < 40:
        return None
    fitted = fit_fan_outline(np.append(start, np.quantile(radius, 0.95)), use_rc)
    if not is_fan(fitted):
        return None
    rows_in, columns_in = np.nonzero(solid)
    ends = _radial_ends(fitted, rows_in, columns_in)
    return _build(fitted, *ends) if ends else None


def _resample(corners_rc: Points, count: int) -> Points:
    """Evenly spaced points along a closed polygon."""
    closed_rc = np.vstack([corners_rc, corners_rc[:1]])
    along = np.append(0.0, np.hypot(*np.diff(closed_rc, axis=0).T).cumsum())
    at = np.linspace(0.0, along[-1], count, endpoint=False)
    return np.stack([np.interp(at, along, closed_rc[:, axis]) for axis in (0, 1)], axis=1)


def _radial_ends(
    parameters: Points, rows: NDArray[np.int_], columns: NDArray[np.int_]
) -> tuple[float, float] | None:
    """Both radii, direction by direction; dropout shortens, so the outer one is a high quantile."""
    row, column, left, right, _ = parameters
    down, across = rows - row, columns - column
    angle, radius = np.arctan2(across, down), np.hypot(down, across)
    inside = (angle > left) & (angle < right)
    if right - left < 0.1 or not inside.any():
        return None
    place = np.minimum((angle[inside] - left) / (right - left) * 24, 23).astype(int)
    nearest, farthest = np.full(24, np.inf), np.zeros(24)
    np.minimum.at(nearest, place, radius[inside])
    np.maximum.at(farthest, place, radius[inside])
    seen = np.isfinite(nearest) & (np.abs(np.arange(24) - 11.5) < 10)
    if seen.sum() < 12:
        return None
    return float(np.quantile(nearest[seen], 0.3)), float(np.quantile(farthest[seen], 0.8))


def _sharpen(fan: Fan, lit: Mask, step: int) -> Fan:
    """Move the fan's outline to the pixels' own edge, by two cells at most."""
    reach = 2.5 * step
    rows, columns = np.nonzero(lit)
    down, across = rows - fan.apex_rc[0], columns - fan.apex_rc[1]
    radius, angle = np.hypot(down, across), np.arctan2(across, down)
    left, right = np.radians([fan.angle_min_deg, fan.angle_max_deg])
    from_left, from_right = (angle - left) * radius, (right - angle) * radius
    from_arc = fan.radius_max_px - radius
    depth = (radius - fan.radius_min_px) / (fan.radius_max_px - fan.radius_min_px)
    inside = (np.minimum(np.minimum(from_left, from_right), from_arc) > -reach) & (depth > 0.15)
    ring = (depth * 60).astype(int)
    ray = ((angle - left) / (right - left) * 60).astype(int)
    picks = []
    for distance, group in ((from_left, ring), (from_right, ring), (from_arc, ray)):
        band = np.flatnonzero(inside & (distance < reach))
        order = band[np.argsort(distance[band])]
        picks.append(order[np.unique(group[order], return_index=True)[1]])
    chosen = np.concatenate(picks)
    points_rc = np.stack([rows[chosen], columns[chosen]], axis=1).astype(np.float64)
    at_edge = ((points_rc < 1) | (points_rc > np.array(lit.shape) - 2)).any(axis=1)
    start = np.array([*fan.apex_rc, left, right, fan.radius_max_px])
    if (~at_edge).sum() < 40:
        return _with_radii(start, lit, fan.radius_min_px, reach)
    fitted = fit_fan_outline(start, points_rc[~at_edge])
    is_near = np.abs(fitted[4] - start[4]) < 2 * reach and is_fan(fitted)
    return _with_radii(fitted if is_near else start, lit, fan.radius_min_px, reach)


def _with_radii(parameters: Points, lit: Mask, radius_min: float, reach: float) -> Fan:
    """Walk from the middle inwards and outwards as long as the arcs are lit."""
    row, column, left, right, radius_max = (float(value) for value in parameters)
    rows, columns = np.nonzero(lit)
    down, across = rows - row, columns - column
    angle = np.arctan2(across, down)
    inside = (angle > left) & (angle < right)
    radius = np.hypot(down, across)[inside].astype(int)
    arcs = np.arange(radius.max() + 2) + 0.5
    length = np.maximum(1.0, arcs * (right - left))
    filled = np.bincount(radius, minlength=len(arcs)) / length
    inner = int(radius_min + 2 * reach)
    while inner > 0 and filled[inner - 1] > 0.35 * filled[inner : inner + 8].mean():
        inner -= 1
    outer = max(inner + 1, int(radius_max - 2 * reach))
    while outer < len(filled) and filled[outer] > 0.35 * filled[max(0, outer - 8) : outer].mean():
        outer += 1
    return _build(parameters, float(inner), float(min(outer, radius_max + reach)))


def _build(parameters: Points, radius_min: float, radius_max: float) -> Fan:
    row, column, left, right = (float(value) for value in parameters[:4])
    angles_deg = float(np.degrees(left)), float(np.degrees(right))
    return Fan((row, column), *angles_deg, max(0.0, radius_min - 0.5), radius_max + 0.5)


def _area(fan: Fan) -> float:
    """Area of the whole fan in pixels, on the screen or not."""
    opening = np.radians(fan.angle_max_deg - fan.angle_min_deg)
    return float(opening / 2 * (fan.radius_max_px**2 - fan.radius_min_px**2))


def _scale(fan: Fan, step: int) -> Fan:
    """From cells of the grid to pixels."""
    row, column = (place * step + (step - 1) / 2 for place in fan.apex_rc)
    radii = fan.radius_min_px * step, fan.radius_max_px * step
    return Fan((row, column), fan.angle_min_deg, fan.angle_max_deg, *radii)


def _shift(fan: Fan, region: Region) -> Fan:
    """From the region to the screen."""
    apex_rc = fan.apex_rc[0] + region.row_start, fan.apex_rc[1] + region.column_start
    return Fan(apex_rc, fan.angle_min_deg, fan.angle_max_deg, fan.radius_min_px, fan.radius_max_px)
