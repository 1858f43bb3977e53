"""Where each bit of tissue is at each phase: an exact map between now and end diastole, both ways.

Along the axis the base descends towards a fixed apex and drags the atria; across it the wall moves
in so that its volume is kept exactly: with stretch lambda along z,
R^2 = lambda r^2 + R_endo(Z)^2 g(Z) (1 - V(t)/EDV), whose determinant is one. The profile g says
that the base squeezes less than the rest; its mean over the cavity is one.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

from shared.phantom.anatomy import CENTRE_FRACTION, Array, Heart, contraction
from shared.phantom.shapes import Points

_ROOF_MM = -70.0  # the atrial roof hangs on the great vessels and moves only a little
_ROOF_SHARE = 0.15
_FADE_MM = 26.0  # how fast inward motion dies out outside the epicardium


class _RadialTerms(NamedTuple):
    """R^2 = stretch r^2 + offset in the wall; radii now; inward shift outside; scale of blood."""

    stretch: Array
    offset: Array
    outer: Array
    shift: Array
    inner: Array
    blood_scale: Array


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


def to_material(beat: Beat, points_xyz: Points) -> Points:
    """Spatial points (mm) -> where that tissue was at end diastole (mm), straightened.

    Blood is scaled with its section; only the wall's motion is a claim about tissue.
    """
    x, y, z = points_xyz
    x, y = _straighten(beat.heart, x, y, z)
    material_z = _interp(z, *_axis_knots(beat)[::-1])
    terms = _radial_terms(beat, material_z)
    r_squared = x * x + y * y
    r = np.sqrt(r_squared) + np.float32(1e-6)
    material_r = np.sqrt(terms.stretch * r_squared + terms.offset)
    faded = r + terms.shift * np.exp(np.minimum(terms.outer - r, 0.0) * np.float32(1 / _FADE_MM))
    scale = np.where(r < terms.outer, material_r, faded) / r
    scale = np.where(r < terms.inner, terms.blood_scale, scale)
    return x * scale, y * scale, material_z


def to_space(beat: Beat, material_xyz: Points) -> Points:
    """The inverse of `to_material`: where tissue known at end diastole is now.

    Blood and wall are inverted in closed form, the fading motion outside by Newton steps.
    """
    x, y, material_z = material_xyz
    z = _interp(material_z, *_axis_knots(beat))
    terms = _radial_terms(beat, material_z)
    material_r = np.sqrt(x * x + y * y) + np.float32(1e-6)
    wall_r = np.sqrt(np.maximum(material_r**2 - terms.offset, 0.0) / terms.stretch)
    r = np.maximum(wall_r, terms.outer)
    for _ in range(6):
        fade = terms.shift * np.exp(np.minimum(terms.outer - r, 0.0) / _FADE_MM)
        r = r - (r + fade - material_r) / (1.0 - fade / _FADE_MM)
    scale = np.where(wall_r < terms.outer, wall_r, r) / material_r
    in_blood = material_r < terms.inner * terms.blood_scale
    scale = np.where(in_blood, 1.0 / terms.blood_scale, scale)
    x, y = _bend(beat.heart, x * scale, y * scale, z)
    return x, y, z


def displacement_mm(heart: Heart, phase: float, material_xyz: Points) -> Points:
    """How far tissue has moved since end diastole, in the heart frame."""
    now = to_space(beat_at(heart, phase), material_xyz)
    then = to_space(beat_at(heart, 0.0), material_xyz)
    return now[0] - then[0], now[1] - then[1], now[2] - then[2]


def squeeze_profile(heart: Heart, material_z: Array) -> Array:
    """How a section's share of the stroke compares with the whole: less at the base, mean one.

    The mean is over the cavity's volume, so the volume curve holds exactly.
    """
    return _squeeze_shape(material_z / heart.long_axis_mm) * np.float32(1.0 / _mean_squeeze())


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


def _radial_terms(beat: Beat, material_z: Array) -> _RadialTerms:
    heart = beat.heart
    # beyond the apex and behind the base there is no wall to squeeze: back to the identity
    above = np.clip((material_z - heart.long_axis_mm) * np.float32(1 / 8.0), 0.0, 1.0)
    below = np.clip(material_z * np.float32(-1 / 45.0), 0.0, 1.0)
    fade = (1.0 - above) * (1.0 - below)
    stretch = 1.0 - np.float32(1.0 - beat.stretch) * fade
    endocardium = endocardial_radius_mm(heart, material_z)
    lost = np.float32(1.0 - beat.volume_ratio) * fade * squeeze_profile(heart, material_z)
    offset = endocardium * endocardium * lost
    outer_material = np.maximum(epicardial_radius_mm(heart, material_z), 1.0)
    outer = np.sqrt(np.maximum(outer_material * outer_material - offset, 0.25) / stretch)
    blood_scale = np.sqrt(stretch / (1.0 - lost))
    shift = outer_material - outer
    return _RadialTerms(stretch, offset, outer, shift, endocardium / blood_scale, blood_scale)


def _squeeze_shape(share: Array) -> Array:
    rise = np.clip(share * np.float32(1 / 0.4), 0.0, 1.0)
    out: Array = np.float32(0.7) + np.float32(0.3) * rise * rise * (3.0 - 2.0 * rise)
    return out


@cache
def _mean_squeeze() -> float:
    """Mean of the squeeze shape over the cavity's volume (the same for every heart)."""
    share = (np.arange(4000) + 0.5) / 4000
    area = 1.0 - ((share - CENTRE_FRACTION) / (1.0 - CENTRE_FRACTION)) ** 2
    return float(np.sum(_squeeze_shape(share) * area) / np.sum(area))


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
