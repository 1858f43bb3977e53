"""Label maps of views with their sector, without the picture: a hundredth of a clip's work."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from shared.echo.sector import Fan
from shared.phantom.anatomy import Heart, draw_heart
from shared.phantom.fan import place_fan
from shared.phantom.planes import PLANES, Pose, jittered, plane_name, pose_of
from shared.phantom.scanner import SCANNERS
from shared.phantom.tissue import cut_labels


@dataclass(frozen=True, slots=True, eq=False)
class SectorLabels:
    """What every pixel of a sector shows.

    Attributes:
        labels_HW: 0 background, 1 LV cavity, 2 myocardium, 3 LA, 4 RV, 5 RA, 6 aorta.
        sector_HW: True inside the sector; labels are 0 outside.
        mm_per_pixel: of rows and of columns.
    """

    labels_HW: npt.NDArray[np.uint8]
    sector_HW: npt.NDArray[np.bool_]
    mm_per_pixel: float


def draw_labels(view: str, size_HW: tuple[int, int], rng: np.random.Generator) -> SectorLabels:
    """A view of a new heart at a random phase, by any of the scanners.

    Raises:
        EchoFedError: VIEW_UNKNOWN.
    """
    heart = draw_heart(rng)
    scanner = SCANNERS[tuple(SCANNERS)[int(rng.integers(len(SCANNERS)))]]
    width_deg = scanner.widths_deg[int(rng.integers(len(scanner.widths_deg)))]
    layout = replace(scanner.layout, width_deg=width_deg)
    fan = place_fan(layout, size_HW)
    depth_mm = float(rng.uniform(*scanner.depth_mm))
    pose = pose_of(jittered(PLANES[plane_name(view)], rng, 1.0), heart)
    # the arcs' centre lies behind the probe's face
    face_mm = depth_mm * layout.face_share / (1.0 - layout.face_share)
    pose = replace(pose, origin_mm=pose.origin_mm - face_mm * pose.down)
    mm_per_pixel = depth_mm / (fan.radius_max_px - fan.radius_min_px)
    return sector_labels(
        heart, float(rng.random()), pose, fan=fan, mm_per_pixel=mm_per_pixel, size_HW=size_HW
    )


def sector_labels(
    heart: Heart,
    phase: float,
    pose: Pose,
    *,
    fan: Fan,
    mm_per_pixel: float,
    size_HW: tuple[int, int],
) -> SectorLabels:
    """What the pixels' centres show of a heart at a phase; the pose's origin is the fan's apex."""
    sector_HW = fan.mask(size_HW)
    rows, columns = np.nonzero(sector_HW)
    down_mm = (rows - fan.apex_rc[0]) * mm_per_pixel
    right_mm = (columns - fan.apex_rc[1]) * mm_per_pixel
    x, y, z = (
        (pose.origin_mm[axis] + down_mm * pose.down[axis] + right_mm * pose.right[axis]).astype(
            np.float32
        )
        for axis in range(3)
    )
    labels_HW = np.zeros(size_HW, np.uint8)
    labels_HW[sector_HW] = cut_labels(heart, phase, (x, y, z))
    return SectorLabels(labels_HW, sector_HW, mm_per_pixel)
