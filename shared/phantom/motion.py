"""Where each bit of tissue is at each phase: an exact map between space and the heart at end diastole, both ways.

Along the axis the base descends towards a fixed apex and drags the atria; across it the wall moves in so that its volume
is kept exactly: with stretch lambda along z, R^2 = lambda r^2 + R_endo(Z)^2 (1 - V(t)/EDV), whose determinant is one.
"""

import math
from dataclasses import dataclass

import numpy as np

from shared.phantom.anatomy import CENTRE_FRACTION, Array, Heart, contraction

_ROOF_MM = -70.0  # the atrial roof hangs on the great vessels and moves only a little
_ROOF_SHARE = 0.15
_FADE_MM = 26.0  # how fast inward motion dies out outside the epicardium


@dataclass(frozen=True, slots=True)
class Beat:
    """The deformation at one phase.

    Attributes:
        share: contraction, 0 at end diastole and 1 at end systole.
        descent_mm: how far the base has come down.
        volume_ratio: V(t) / EDV.
    """

    heart: Heart
    share: float
    descent_mm: float
    volume_ratio: float

    @property
    def stretch(self) -> float:
        """Length of the long axis against end diastole."""
        return 1.0 - self.descent_mm / self.heart.long_axis_mm


def beat_at(heart: Heart, phase: float) -> Beat:
    """The deformation of this heart at a phase in [0, 1)."""
    share = contraction(heart, phase)
    return Beat(heart, share, heart.descent_mm * share, 1.0 - heart.ejection_fraction * share)


def to_material(beat: Beat, points_xyz: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
    """Spatial points (mm) -> where that tissue was at end diastole (mm), straightened (bend removed)."""
    heart = beat.heart
    x, y, z = points_xyz
    x, y = _straighten(heart, x, y, z)
    material_z = _interp(z, *_axis_knots(beat)[::-1])
    stretch, offset, outer, shift = _radial_terms(beat, material_z)
    r_squared = x * x + y * y
    r = np.sqrt(r_squared) + np.float32(1e-6)
    material_r = np.sqrt(stretch * r_squared + offset)
    outside = r + shift * np.exp((np.minimum(outer - r, 0.0)) / np.float32(_FADE_MM))
    scale = np.where(r < outer, material_r, outside) / r
    return x * scale, y * scale, material_z


def to_space(beat: Beat, material_xyz: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
    """The inverse of `to_material`: where tissue known at end diastole is now.

    The wall itself is inverted in closed form, the fading motion outside it by Newton steps.
    """
    heart = beat.heart
    x, y, material_z = material_xyz
    z = _interp(material_z, *_axis_knots(beat))
    stretch, offset, outer, shift = _radial_terms(beat, material_z)
    material_r = np.sqrt(x * x + y * y) + np.float32(1e-6)
    wall_r = np.sqrt(np.maximum(material_r**2 - offset, 0.0) / stretch)
    r = np.maximum(wall_r, outer)
    for _ in range(6):
        fade = shift * np.exp(np.minimum(outer - r, 0.0) / _FADE_MM)
        r = r - (r + fade - material_r) / (1.0 - fade / _FADE_MM)
    scale = np.where(wall_r < outer, wall_r, r) / material_r
    x, y = _bend(heart, x * scale, y * scale, z)
    return x, y, z


def endocardial_radius_mm(heart: Heart, material_z: Array) -> Array:
    """Radius of the cavity at end diastole, 0 beyond the apex and held below the base."""
    height = heart.long_axis_mm * (1.0 - CENTRE_FRACTION)
    along = (np.maximum(material_z, 0.0) - heart.centre_mm) / height
    radius: Array = heart.radius_mm * np.sqrt(np.clip(1.0 - along * along, 0.0, 1.0))
    return radius


def epicardial_radius_mm(heart: Heart, material_z: Array) -> Array:
    """Outer radius of the left ventricle at end diastole."""
    height = heart.long_axis_mm * (1.0 - CENTRE_FRACTION) + 0.8 * heart.wall_mm
    along = (np.maximum(material_z, 0.0) - heart.centre_mm) / height
    radius: Array = heart.outer_mm * np.sqrt(np.clip(1.0 - along * along, 0.0, 1.0))
    return radius


def _axis_knots(beat: Beat) -> tuple[list[float], list[float]]:
    """Material and spatial z of the roof, the base, the apex and a far point; linear in between."""
    length, down = beat.heart.long_axis_mm, beat.descent_mm
    material = [-1000.0, _ROOF_MM, 0.0, length, 1000.0]
    space = [-1000.0 + _ROOF_SHARE * down, _ROOF_MM + _ROOF_SHARE * down, down, length, 1000.0]
    return material, space


def _radial_terms(beat: Beat, material_z: Array) -> tuple[Array, Array, Array, Array]:
    """Stretch and offset of R^2 = stretch r^2 + offset, the present outer radius, and the inward shift there."""
    heart = beat.heart
    # beyond the apex and behind the base there is no wall to squeeze, so the map returns to the identity
    above = np.clip((material_z - heart.long_axis_mm) / 8.0, 0.0, 1.0)
    below = np.clip(-material_z / 45.0, 0.0, 1.0)
    fade = (1.0 - above) * (1.0 - below)
    stretch = 1.0 - (1.0 - beat.stretch) * fade
    endocardium = endocardial_radius_mm(heart, material_z)
    offset = endocardium**2 * (1.0 - beat.volume_ratio) * fade
    outer_material = np.maximum(epicardial_radius_mm(heart, material_z), 1.0)
    outer = np.sqrt(np.maximum(outer_material**2 - offset, 0.25) / stretch)
    return stretch, offset, outer, outer_material - outer


def _straighten(heart: Heart, x: Array, y: Array, z: Array) -> tuple[Array, Array]:
    """Undo bend and ellipticity: sections keep their area."""
    aspect, bow = _section_terms(heart, z)
    return (x - heart.bend_mm[0] * bow) / aspect, (y - heart.bend_mm[1] * bow) * aspect


def _bend(heart: Heart, x: Array, y: Array, z: Array) -> tuple[Array, Array]:
    """The inverse of `_straighten`."""
    aspect, bow = _section_terms(heart, z)
    return x * aspect + heart.bend_mm[0] * bow, y / aspect + heart.bend_mm[1] * bow


def _section_terms(heart: Heart, z: Array) -> tuple[float, Array]:
    along = np.clip(z / heart.long_axis_mm, -0.5, 1.3)
    return math.sqrt(heart.ellipticity), along * along


def _interp(values: Array, knots: list[float], heights: list[float]) -> Array:
    out: Array = np.interp(values, knots, heights).astype(values.dtype)
    return out
