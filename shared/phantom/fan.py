"""Scan conversion: where the fan lies on the screen, and polar samples to pixels."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from shared.echo.sector import Fan, SectorMask
from shared.phantom.anatomy import Array


@dataclass(frozen=True, slots=True)
class FanLayout:
    """How a scanner places its fan on the screen, all as shares so that any size works.

    Attributes:
        width_deg: opening angle.
        face_share: radius of the probe face against the outer radius (0 is a point).
        centre_share: column of the fan's axis, 0.5 is the middle.
        top_share, bottom_share: rows kept free above and below the fan.
        side_share: columns kept free at the sides.
    """

    width_deg: float
    face_share: float
    centre_share: float
    top_share: float
    bottom_share: float
    side_share: float


@dataclass(frozen=True, eq=False)
class Converter:
    """Precomputed bilinear map from (samples, lines) to the pixels of the sector.

    Attributes:
        fan: geometry in pixels.
        sector: which pixels lie in the fan, exactly.
        shape: (samples, lines) of the polar grid.
        matrix: sparse (pixels in the sector, samples x lines).
    """

    fan: Fan
    sector: SectorMask
    shape: tuple[int, int]
    matrix: csr_array

    def to_pixels(self, polar: Array) -> Array:
        """(..., samples, lines) -> (pixels in the sector, ...), in row-major order of the mask."""
        flat = polar.reshape(-1, polar.shape[-2] * polar.shape[-1])
        out: Array = self.matrix @ (flat[0] if polar.ndim == 2 else np.ascontiguousarray(flat.T))
        return out

    def image(self, values: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Values of the sector's pixels -> picture (H, W), 0 outside."""
        picture = np.zeros(self.sector.mask_HW.shape, np.uint8)
        picture[self.sector.mask_HW] = values
        return picture


@lru_cache(maxsize=16)
def converter(layout: FanLayout, size_HW: tuple[int, int]) -> Converter:
    """The fan of this layout on a screen of this size, with a polar grid fine enough for it."""
    fan = place_fan(layout, size_HW)
    mask_HW = fan.mask(size_HW)
    span_px = fan.radius_max_px - fan.radius_min_px
    samples = int(np.clip(round(0.85 * span_px), 112, 256))
    lines = int(np.clip(round(0.52 * span_px), 80, 160))
    rows, columns = np.nonzero(mask_HW)
    down, right = rows - fan.apex_rc[0], columns - fan.apex_rc[1]
    deep = (np.hypot(down, right) - fan.radius_min_px) / span_px * (samples - 1)
    angle = np.degrees(np.arctan2(right, down))
    aside = (angle - fan.angle_min_deg) / (fan.angle_max_deg - fan.angle_min_deg) * (lines - 1)
    matrix = _bilinear(deep, aside, (samples, lines))
    return Converter(fan, SectorMask(mask_HW, fan, 1.0), (samples, lines), matrix)


def place_fan(layout: FanLayout, size_HW: tuple[int, int]) -> Fan:
    """The largest fan that keeps the layout's margins."""
    height, width = size_HW
    half = math.radians(layout.width_deg / 2)
    top, bottom = height * layout.top_share, height * (1.0 - layout.bottom_share)
    centre = width * layout.centre_share
    side = min(centre, width - 1 - centre) - width * layout.side_share
    # rows used by a fan of outer radius 1: from the corners of its face to its lowest point
    used = 1.0 - layout.face_share * math.cos(half)
    radius = min((bottom - top) / used, side / math.sin(half))
    return Fan(
        apex_rc=(top - radius * layout.face_share * math.cos(half), centre),
        angle_min_deg=-layout.width_deg / 2,
        angle_max_deg=layout.width_deg / 2,
        radius_min_px=radius * layout.face_share,
        radius_max_px=radius,
    )


def _bilinear(
    deep: npt.NDArray[np.float64], aside: npt.NDArray[np.float64], shape: tuple[int, int]
) -> csr_array:
    samples, lines = shape
    row = np.clip(np.floor(deep).astype(np.int32), 0, samples - 2)
    column = np.clip(np.floor(aside).astype(np.int32), 0, lines - 2)
    u, v = np.clip(deep - row, 0, 1), np.clip(aside - column, 0, 1)
    corner = row * lines + column
    indices = np.stack([corner, corner + 1, corner + lines, corner + lines + 1], axis=1)
    weights = np.stack([(1 - u) * (1 - v), (1 - u) * v, u * (1 - v), u * v], axis=1)
    pointers = np.arange(0, 4 * len(deep) + 1, 4, dtype=np.int32)
    return csr_array(
        (weights.astype(np.float32).ravel(), indices.ravel().astype(np.int32), pointers),
        shape=(len(deep), samples * lines),
    )
