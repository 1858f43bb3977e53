"""The sector: the ultrasound fan, its geometry, and all outside it (the background)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.errors import Code, EchoFedError


@dataclass(frozen=True, slots=True)
class Fan:
    """A fan in pixels (row, column); angles in degrees from straight down, positive to the right.

    Args:
        apex_rc: centre of the arcs; may lie above the picture.
    """

    apex_rc: tuple[float, float]
    angle_min_deg: float
    angle_max_deg: float
    radius_min_px: float
    radius_max_px: float

    def mask(self, size_HW: tuple[int, int]) -> NDArray[np.bool_]:
        """True where a pixel's centre lies in the fan, (H, W); its sides look down."""
        down = np.arange(size_HW[0]) - self.apex_rc[0]
        right = np.arange(size_HW[1]) - self.apex_rc[1]
        # where each row begins and ends, instead of an arc tangent of every pixel
        first, last = np.tan(np.radians([self.angle_min_deg, self.angle_max_deg]))
        far = np.sqrt(np.maximum(self.radius_max_px**2 - down**2, 0.0))
        near = np.sqrt(np.maximum(self.radius_min_px**2 - down**2, 0.0))
        begin = np.maximum(down * first, -far)
        end = np.minimum(down * last, far)
        end[np.abs(down) > self.radius_max_px] = -np.inf
        inside: NDArray[np.bool_] = (
            (right >= begin[:, None]) & (right <= end[:, None]) & (np.abs(right) >= near[:, None])
        )
        return inside


@dataclass(frozen=True, slots=True, eq=False)
class SectorMask:
    """Which pixels show tissue.

    Args:
        mask_HW: True inside the sector.
        fan: geometry, None where none could be fitted.
        confidence: 1 for a known geometry, less for a detected one.
    """

    mask_HW: NDArray[np.bool_]
    fan: Fan | None
    confidence: float

    def __post_init__(self) -> None:
        """Refuse a sector without pixels."""
        if self.mask_HW.ndim != 2 or not self.mask_HW.any():
            raise EchoFedError(
                Code.SECTOR_EMPTY,
                "the sector holds no pixel",
                "check that the file shows a 2-D image; it was left out",
            )
