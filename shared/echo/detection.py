"""Sector detection: where the ultrasound fan lies in a clip, from its pixels and its 2-D region.

The largest solid component says where tissue is, its edges what fan or rectangle it fills. Where
neither fits and the scanner says that the region is 2-D, the component's convex hull is taken.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.spatial import ConvexHull, QhullError

from shared.echo.box import fit_box
from shared.echo.outline import (
    Points,
    begins_of,
    edge_points,
    fit_fan_outline,
    fit_far,
    fit_sides,
    is_fan,
    near_radius,
    support,
)
from shared.echo.sector import Fan, SectorMask
from shared.echo.tissue import DENSITIES, Mask, Tissue, solid_components, tissue_of

MIN_CONFIDENCE = 0.7
"""Below this a hull is not worth having."""
_CLEAN = max(DENSITIES)
_MAX_BESIDE = 0.02  # of the screen; more beside a rectangle is the picture a trace was taken from
_SURE = 0.75  # of a fan; sparser tissue is not looked at then
_MIN_AREA = 0.04  # of the region; less is a logo or a trace
_SPILL = 0.06  # share of the component outside the fan, for each cell by which gaps were closed
_MIN_FILL = 0.2  # share of the fan that is solid
_MIN_HELD = 0.25  # share of the fan's edges on which tissue begins, their geometric mean
_MIN_ARC = 0.28  # share of the far arc alone; the humps of a spectrum have sides, but a flat base
_MIN_WHOLE = 0.6  # share of all that is solid on the screen; less is one hump of several
_AREA_POWER = 0.25  # of two fits the larger one wins unless it is clearly worse
_ON_SCREEN = 0.8  # share of a fan that lies in its region; spectra and M-mode fit only larger ones
_REACH = 3.0  # joined pixels from the outline within which tissue is fitted
_MIN_POINTS = 40  # of an outline


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
        The mask, with a fan where one fits (phased and curved probes); else a rectangle with four
        sharp edges (linear probes); else the convex hull if the scanner says that the region is
        2-D (panoramic pictures, cut ones); else None, because a hull could hold text.
    """
    size_HW = (pixels_THW.shape[1], pixels_THW.shape[2])
    is_declared = region is not None
    region = region or Region(0, size_HW[0], 0, size_HW[1])
    tissue = tissue_of(pixels_THW[(slice(None), *region.slices())])
    found: list[_Trial] = []
    for density in DENSITIES:
        found.append(_fit(tissue, density))
        best = max(found, key=lambda trial: trial.confidence * trial.area**_AREA_POWER)
        if best.confidence >= _SURE:
            break
    if best.fan is not None:
        inside = np.zeros(size_HW, dtype=np.bool_)
        fan = _shift(_scale(best.fan, tissue.joined), region)
        inside[region.slices()] = fan.mask(size_HW)[region.slices()]
        if inside.sum() >= _ON_SCREEN * _area(fan):
            return SectorMask(inside, fan, round(best.confidence, 3))
    return _find_box(tissue, region, size_HW) or (
        _find_hull(found, tissue, region, size_HW) if is_declared else None
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Trial:
    """What one density gave; corners and area in cells of the grid, the fan in joined pixels."""

    corners_rc: Points
    solidity: float
    area: float
    fan: Fan | None = None
    confidence: float = 0.0


_NOTHING = _Trial(np.empty((0, 2)), 0.0, 0.0)


def _find_box(tissue: Tissue, region: Region, size_HW: tuple[int, int]) -> SectorMask | None:
    """The rectangle of a linear probe; a trace stands below the 2-D picture it was taken from."""
    largest, solid = solid_components(tissue.share, _CLEAN)
    if largest.mean() < _MIN_AREA or (solid & ~largest).mean() > _MAX_BESIDE:
        return None
    found = fit_box(tissue.beside(largest))
    if found is None:
        return None
    edges, held = found
    top, bottom, left, right = np.rint((edges + 0.5) * tissue.joined).astype(int)
    inside = np.zeros(size_HW, dtype=np.bool_)
    inside[region.slices()][top:bottom, left:right] = True
    return SectorMask(inside, None, round(held, 3))


def _find_hull(
    found: list[_Trial], tissue: Tissue, region: Region, size_HW: tuple[int, int]
) -> SectorMask | None:
    """The convex hull of the most solid component: panoramic pictures, fans cut at the rim."""
    # the sparsest component is left out: its closed gaps reach the words beside it
    hull = max(found[:2], key=lambda trial: trial.solidity)
    if hull.solidity < MIN_CONFIDENCE:
        return None
    cell = tissue.cell * tissue.joined
    outward_rc = np.sign(hull.corners_rc - hull.corners_rc.mean(axis=0)) * cell / 2
    corners_rc = hull.corners_rc * cell + (cell - 1) / 2 + outward_rc
    inside = np.zeros(size_HW, dtype=np.bool_)
    inside[region.slices()] = _fill(corners_rc, inside[region.slices()].shape)
    return SectorMask(inside, None, round(hull.solidity, 3))


def _fit(tissue: Tissue, density: float) -> _Trial:
    """Component, hull and fan at one density."""
    solid, all_solid = solid_components(tissue.share, density)
    if solid.mean() < _MIN_AREA:
        return _NOTHING
    corners_rc = _hull(solid)
    if len(corners_rc) < 4:
        return _NOTHING
    area = float(_fill(corners_rc, solid.shape).sum())
    plain = _Trial(corners_rc, float(solid.sum() / area), area)
    found = _fit_fan(tissue, solid, all_solid)
    if found is None:
        return plain
    fan, seen = found
    held = float(seen.prod() ** (1 / 3))
    mask = _scale(fan, 1 / tissue.cell).mask((solid.shape[0], solid.shape[1]))
    cover = float((solid & mask).sum() / solid.sum())
    fill = float(((solid | all_solid) & mask).sum() / max(1, mask.sum()))
    whole = float((all_solid & mask).sum() / max(1, all_solid.sum()))
    is_seen = fill >= _MIN_FILL and held >= _MIN_HELD and seen[2] >= _MIN_ARC
    is_good = is_seen and cover >= 1 - _SPILL * DENSITIES[density] and whole >= _MIN_WHOLE
    return replace(plain, fan=fan, confidence=cover * held**0.5) if is_good else plain


def _fit_fan(tissue: Tissue, solid: Mask, all_solid: Mask) -> tuple[Fan, Points] | None:
    """The fan around a component, and how much of its sides and its far arc is seen.

    The largest component alone tells the sides; below a dark band tissue may go on in others.
    """
    begins, deep_HW = begins_of(tissue.beside(solid)), tissue.beside(all_solid)
    sides = fit_sides(begins)
    if sides is None:
        return None
    parameters = np.append(sides, fit_far(sides, deep_HW))
    for reach in (2 * _REACH, _REACH):
        points_rc = edge_points(parameters, begins, deep_HW, reach)
        if not is_fan(parameters) or len(points_rc) < _MIN_POINTS:
            return None
        parameters = fit_fan_outline(parameters, points_rc)
    if not is_fan(parameters):
        return None
    near = near_radius(parameters, tissue.lit_HW)
    points_rc = edge_points(parameters, begins, deep_HW, _REACH)
    height, width = tissue.lit_HW.shape
    seen = support(parameters, near, points_rc, (height, width))
    row, column, left, right, far = (float(value) for value in parameters)
    angles_deg = float(np.degrees(left)), float(np.degrees(right))
    return Fan((row, column), *angles_deg, near, far), seen


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


def _area(fan: Fan) -> float:
    """Area of the whole fan in pixels, on the screen or not."""
    opening = np.radians(fan.angle_max_deg - fan.angle_min_deg)
    return float(opening / 2 * (fan.radius_max_px**2 - fan.radius_min_px**2))


def _scale(fan: Fan, step: float) -> Fan:
    """From joined pixels to pixels."""
    row, column = (place * step + (step - 1) / 2 for place in fan.apex_rc)
    radii = fan.radius_min_px * step, fan.radius_max_px * step
    return Fan((row, column), fan.angle_min_deg, fan.angle_max_deg, *radii)


def _shift(fan: Fan, region: Region) -> Fan:
    """From the region to the screen."""
    apex_rc = fan.apex_rc[0] + region.row_start, fan.apex_rc[1] + region.column_start
    return Fan(apex_rc, fan.angle_min_deg, fan.angle_max_deg, fan.radius_min_px, fan.radius_max_px)
