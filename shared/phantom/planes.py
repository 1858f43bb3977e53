"""Standard echo planes as probe poses in the heart frame, and how a real hand misses them."""

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from shared.errors import Code, EchoFedError
from shared.phantom.anatomy import Heart

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Plane:
    """A standard plane: where the probe sits and how the picture is turned.

    Attributes:
        window: "apical" (on the apex), "parasternal" or "subcostal" (beside the ventricle).
        side_deg: wall angle that faces the probe (beside) or the right edge (apical).
        level: share of the long axis at which a plane beside the ventricle aims.
        is_long: whether a plane beside the ventricle contains the long axis.
        tilt_deg: lean of the beam away from the viewer (apical: anteriorly).
        swing_deg: turn of the beam within the plane, towards the right edge.
        standoff_mm: tissue between probe and heart.
        roll_deg, shift_mm: further turn about the beam and move across the plane (jitter).
    """

    window: str
    side_deg: float
    level: float = 0.0
    is_long: bool = True
    tilt_deg: float = 0.0
    swing_deg: float = 0.0
    standoff_mm: float = 12.0
    roll_deg: float = 0.0
    shift_mm: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Pose:
    """Where the picture lies in the heart frame: origin (mm), unit vectors down and right."""

    origin_mm: Vector
    down: Vector
    right: Vector

    @property
    def normal(self) -> Vector:
        """Unit vector towards the viewer."""
        return np.cross(self.down, self.right)


PLANES: dict[str, Plane] = {
    "A4C": Plane("apical", 30.0, tilt_deg=-1.0),
    "A2C": Plane("apical", 90.0),
    "A3C": Plane("apical", 150.0),
    "A5C": Plane("apical", 30.0, tilt_deg=8.5),
    "PLAX": Plane("parasternal", 150.0, level=0.14),
    "PSAX-AV": Plane("parasternal", 125.0, level=-0.11, is_long=False),
    "PSAX-MV": Plane("parasternal", 125.0, level=0.13, is_long=False),
    "PSAX-PM": Plane("parasternal", 125.0, level=0.45, is_long=False),
    "PSAX-apex": Plane("parasternal", 125.0, level=0.78, is_long=False),
    "SC-4C": Plane("subcostal", 213.0, level=0.12, swing_deg=-16.0, standoff_mm=24.0),
}
VIEWS: tuple[str, ...] = tuple(PLANES)
CONTRAST = "-contrast"
"""Ends the name of a view that is imaged with a contrast agent in the chambers."""
CONTRAST_VIEWS: tuple[str, ...] = tuple(plane + CONTRAST for plane in ("A4C", "A2C", "A3C", "PLAX"))


def plane_name(view: str) -> str:
    """The plane that a view shows, with or without contrast.

    Raises:
        EchoFedError: VIEW_UNKNOWN.
    """
    if view not in VIEWS + CONTRAST_VIEWS:
        raise EchoFedError(
            Code.VIEW_UNKNOWN,
            f"the phantom has no view {view!r}",
            f"choose of {list(VIEWS + CONTRAST_VIEWS)}",
        )
    return view.removesuffix(CONTRAST)


def jittered(plane: Plane, rng: np.random.Generator, strength: float) -> Plane:
    """The plane as a hand finds it; strength 1 is an ordinary examination, 0 the textbook.

    At 1 the four- and five-chamber planes (10 degrees apart) and the neighbouring short-axis
    levels overlap in their tails.
    """
    turn, tilt, swing, across, along, stand = rng.normal(size=6) * strength
    return replace(
        plane,
        roll_deg=plane.roll_deg + 8.0 * float(turn),
        tilt_deg=plane.tilt_deg + 3.6 * float(tilt),
        swing_deg=plane.swing_deg + 4.5 * float(swing),
        shift_mm=(plane.shift_mm[0] + 4.0 * float(across), plane.shift_mm[1] + 4.0 * float(along)),
        standoff_mm=max(4.0, plane.standoff_mm + 3.0 * float(stand)),
    )


def pose_of(plane: Plane, heart: Heart) -> Pose:
    """Place the plane on this heart: probe origin, beam direction and picture's right."""
    side = math.radians(plane.side_deg + heart.rotation_deg)
    outward = np.array([math.cos(side), math.sin(side), 0.0])
    axis = np.array([0.0, 0.0, 1.0])
    if plane.window == "apical":
        down, right = -axis, outward
        reach = heart.long_axis_mm + 0.8 * heart.wall_mm + plane.standoff_mm
        origin = axis * reach
    else:
        down = -outward
        right = _right_beside(plane, axis, outward)
        origin = outward * _reach_beside(plane, heart) + axis * plane.level * heart.long_axis_mm
    return _moved(Pose(origin, down, right), plane)


def _right_beside(plane: Plane, axis: Vector, outward: Vector) -> Vector:
    if not plane.is_long:
        return np.cross(outward, axis)
    return axis if plane.window == "subcostal" else -axis


def _reach_beside(plane: Plane, heart: Heart) -> float:
    """Distance of the probe from the long axis: wall, right ventricle, chest or liver."""
    right_heart = (26.0 if plane.window == "parasternal" else 38.0) * heart.rv_scale
    # towards the apex the right ventricle thins out and the chest wall comes closer
    taper = 1.0 - 0.5 * max(0.0, plane.level - 0.3)
    return heart.outer_mm + right_heart * taper + plane.standoff_mm


def _moved(pose: Pose, plane: Plane) -> Pose:
    """Apply roll, tilt and swing about the probe, then slide it."""
    down, right = pose.down, _turned(pose.right, pose.down, plane.roll_deg)
    down = _turned(down, right, plane.tilt_deg)
    normal = np.cross(down, right)
    down, right = _turned(down, normal, plane.swing_deg), _turned(right, normal, plane.swing_deg)
    origin = pose.origin_mm + plane.shift_mm[0] * normal + plane.shift_mm[1] * right
    return Pose(origin, down, right)


def _turned(vector: Vector, axis: Vector, degrees: float) -> Vector:
    """Rotate about a unit axis (Rodrigues)."""
    angle = math.radians(degrees)
    along = axis * float(axis @ vector)
    out: Vector = (
        along + math.cos(angle) * (vector - along) + math.sin(angle) * np.cross(axis, vector)
    )
    return out
