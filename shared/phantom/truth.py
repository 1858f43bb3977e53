"""What is true about a picture: landmarks and tissue points followed through the beat."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from shared.echo.sector import Fan
from shared.phantom.anatomy import Heart
from shared.phantom.motion import beat_at, to_space
from shared.phantom.planes import Pose
from shared.phantom.valves import mitral_centre, mitral_radius_mm

Points64 = npt.NDArray[np.float64]
_IN_PLANE_MM = 5.0  # a landmark farther from the plane is not in the picture


def pixel_rc(points_P3: Points64, pose: Pose, *, fan: Fan, mm_per_pixel: float) -> Points64:
    """Heart-frame points (P, 3) in mm -> (row, column) of their foot on the picture, (P, 2)."""
    offsets = points_P3 - pose.origin_mm
    down, right = offsets @ pose.down, offsets @ pose.right
    rows = fan.apex_rc[0] + down / mm_per_pixel
    return np.stack([rows, fan.apex_rc[1] + right / mm_per_pixel], axis=-1)


def follow(heart: Heart, phases: Sequence[float], material_P3: Points64) -> Points64:
    """Tissue points known at end diastole (P, 3) -> where they are at each phase (T, P, 3)."""
    x, y, z = material_P3.T
    places = [np.stack(to_space(beat_at(heart, phase), (x, y, z)), axis=-1) for phase in phases]
    return np.stack(places)


def landmarks_rc(
    heart: Heart, phases: Sequence[float], pose: Pose, *, fan: Fan, mm_per_pixel: float
) -> dict[str, Points64]:
    """Endocardial apex and the two points where the mitral annulus crosses the picture.

    Returns:
        "apex", "annulus_left", "annulus_right": (T, 2) as (row, column); NaN where out of plane.
    """
    found = {name: np.full((len(phases), 2), np.nan) for name in _NAMES}
    turns = np.linspace(0.0, 2 * np.pi, 121)
    x, y, z = mitral_centre(heart)
    radius = mitral_radius_mm(heart)
    ring = np.stack([x + radius * np.cos(turns), y + radius * np.sin(turns), 0 * turns + z], axis=1)
    rings = follow(heart, phases, ring)
    apexes = follow(heart, phases, np.array([[0.0, 0.0, heart.long_axis_mm]]))
    for t in range(len(phases)):
        if abs(float((apexes[t, 0] - pose.origin_mm) @ pose.normal)) < _IN_PLANE_MM:
            found["apex"][t] = pixel_rc(apexes[t], pose, fan=fan, mm_per_pixel=mm_per_pixel)[0]
        crossings = _crossings(rings[t], (rings[t] - pose.origin_mm) @ pose.normal)
        if len(crossings) == 2:
            points = pixel_rc(crossings, pose, fan=fan, mm_per_pixel=mm_per_pixel)
            left, right = points[np.argsort(points[:, 1])]
            found["annulus_left"][t], found["annulus_right"][t] = left, right
    return found


_NAMES = ("apex", "annulus_left", "annulus_right")


def _crossings(ring_P3: Points64, heights_P: Points64) -> Points64:
    """Where a closed polygon crosses height zero."""
    index = np.flatnonzero(np.diff(np.signbit(heights_P)))
    share = heights_P[index] / (heights_P[index] - heights_P[index + 1])
    out: Points64 = ring_P3[index] + share[:, None] * (ring_P3[index + 1] - ring_P3[index])
    return out
