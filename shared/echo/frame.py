"""Frames and clips: grey pixels with their scale; axis 0 runs down, axis 1 to the right."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.errors import Code, EchoFedError

MillimetresPerPixel = tuple[float, float]
"""Spacing of (rows, columns) in mm."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One grey image.

    Args:
        pixels_HW: uint8.
        mm_per_pixel: spacing of (rows, columns), None where no calibration is known.
        key: keyed pseudonym of the frame; carries no identity.
    """

    pixels_HW: NDArray[np.uint8]
    mm_per_pixel: MillimetresPerPixel | None
    key: str


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """A cine loop of one view of one patient.

    Args:
        pixels_THW: uint8.
        mm_per_pixel: spacing of (rows, columns), None where no calibration is known.
        frame_time_ms: time between frames, None where unknown.
        key: keyed pseudonym of the clip.
        patient: patient key.
    """

    pixels_THW: NDArray[np.uint8]
    mm_per_pixel: MillimetresPerPixel | None
    frame_time_ms: float | None
    key: str
    patient: str

    def __post_init__(self) -> None:
        """Refuse a clip without frames."""
        if self.pixels_THW.ndim != 3 or 0 in self.pixels_THW.shape:
            raise EchoFedError(
                Code.FRAMES_MISSING,
                f"a clip needs frames, rows and columns; its shape is {self.pixels_THW.shape}",
                "the file holds no image; leave it out",
            )

    def frame(self, index: int) -> Frame:
        """The frame at an index."""
        return Frame(self.pixels_THW[index], self.mm_per_pixel, f"{self.key}:{index}")
