"""What lies at each point of a plane at one phase: chamber, wall, and how strongly it echoes.

All structures are placed at end diastole and followed by `motion.to_material`, so their texture
moves with them; valves open and close by themselves.
"""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from shared.phantom.anatomy import Array, Heart
from shared.phantom.motion import Beat, beat_at, to_material
from shared.phantom.shapes import Points, capsule, ellipsoid
from shared.phantom.valves import (
    AORTIC_ANGLE,
    aortic_centre,
    leaflet_distance,
    mitral_centre,
    mitral_radius_mm,
    tricuspid_centre,
)

LABELS = ("background", "LV", "myocardium", "LA", "RV", "RA", "aorta")

# echo strengths in dB against an arbitrary full scale; muscle and blood differ as in scans of good
# windows, the noise that fills the cavities is the scanner's
BLOOD_DB = -52.0
MYOCARDIUM_DB = -26.0
FIBROUS_DB = -13.0
VALVE_DB = -15.0
PERICARDIUM_DB = -9.0
SURROUND_DB = -28.0
LIVER_DB = -27.0
# microbubbles at low transmit power: blood echoes more strongly than muscle, which is suppressed
BUBBLES_DB = -14.0
_LOW_POWER_DB = -13.0

_FAR = np.float32(99.0)


class Chambers(NamedTuple):
    """Signed distances (mm, negative inside) of the labelled structures, in label order."""

    cavity: Array
    wall: Array
    left_atrium: Array
    right_ventricle: Array
    right_atrium: Array
    aorta: Array


@dataclass(frozen=True, slots=True)
class Section:
    """One plane of the heart at one phase.

    Attributes:
        material_xyz: where each point's tissue was at end diastole, moved by the patient's own
            offset; names the scatterers.
        chambers: signed distances of the labelled structures.
        echo_db: echo strength of the tissue.
        mirror: 0 to 1, how much of that echo is a mirror's (depends on the beam's angle).
    """

    material_xyz: Points
    chambers: Chambers
    echo_db: Array
    mirror: Array


def cut(heart: Heart, phase: float, points_xyz: Points) -> Section:
    """The section of the heart through these points (heart frame, mm) at a phase."""
    beat = beat_at(heart, phase)
    material = to_material(beat, points_xyz)
    chambers, outline = _chambers(beat, material)
    echo_db, mirror = _paint(heart, material, chambers, outline)
    valves = leaflet_distance(heart, phase, material)
    papillary = np.maximum(_papillary(heart, material), chambers.cavity)
    echo_db = _blend(echo_db, papillary, MYOCARDIUM_DB + 1.0, 1.2)
    echo_db = _blend(echo_db, valves, VALVE_DB, 0.6)
    mirror = _blend(mirror, valves, 0.5, 0.6)
    seed = heart.roughness_seed
    x, y, z = (v + np.float32(seed % s) for v, s in zip(material, (83, 89, 97), strict=True))
    return Section((x, y, z), chambers, echo_db, mirror)


def cut_labels(heart: Heart, phase: float, points_xyz: Points) -> np.ndarray:
    """The label map of a section without its echo: a quarter of the work."""
    beat = beat_at(heart, phase)
    return label_map(_chambers(beat, to_material(beat, points_xyz))[0])


def opacify(section: Section) -> Section:
    """The section with a contrast agent in all chambers, imaged at low power."""
    blood = np.minimum.reduce([d for d in section.chambers if d is not section.chambers.wall])
    tissue_db = section.echo_db + np.float32(_LOW_POWER_DB)
    echo_db = _blend(tissue_db, blood, BUBBLES_DB, 1.0)
    return replace(section, echo_db=echo_db, mirror=_blend(section.mirror, blood, 0.0, 1.0))


def label_map(chambers: Chambers) -> np.ndarray:
    """Labels 0 background, 1 LV cavity, 2 myocardium, 3 LA, 4 RV, 5 RA, 6 aorta (uint8)."""
    labels = np.zeros(np.shape(chambers.cavity), np.uint8)
    for label in (5, 4, 3, 6, 2, 1):
        labels[chambers[label - 1] < 0] = label
    return labels


def _chambers(beat: Beat, material: Points) -> tuple[Chambers, Array]:
    """Chambers and the outline of the whole heart."""
    heart, z = beat.heart, material[2]
    endocardium, epicardium = _ventricle(heart, material)
    root, lvot = _aorta(heart, material)
    left_atrium = np.maximum(_left_atrium(heart, material), z + 0.5)
    left_atrium = np.maximum(left_atrium, 1.5 - root)
    cavity = np.minimum(np.maximum(endocardium, -z), lvot)
    wall = np.maximum(np.maximum(epicardium, -3.0 - z), -cavity)
    wall = np.maximum(np.maximum(wall, -left_atrium), -root)
    rv = _right_ventricle(beat, material)
    right_ventricle = np.maximum(rv, 2.0 - epicardium)
    right_ventricle = np.maximum(right_ventricle, 2.0 - root)
    right_atrium = np.maximum(_right_atrium(heart, material), z - 2.5)
    right_atrium = np.maximum(right_atrium, 2.5 - left_atrium)
    right_atrium = np.maximum(right_atrium, 2.5 - root)
    right_atrium = np.maximum(right_atrium, 2.0 - epicardium)
    capped = np.maximum(epicardium, -3.0 - z)
    outline = np.minimum(np.minimum(capped, right_ventricle - 4.0), right_atrium - 2.5)
    outline = np.minimum(np.minimum(outline, left_atrium - 3.0), root - 2.5)
    chambers = Chambers(cavity, wall, left_atrium, right_ventricle, right_atrium, root)
    return chambers, outline


def _ventricle(heart: Heart, material: Points) -> tuple[Array, Array]:
    """Distances to the endocardial and epicardial ellipsoids, straight tubes behind the base."""
    x, y, z = material
    clamped = (x, y, np.maximum(z, np.float32(0.0)))
    centre = (0.0, 0.0, heart.centre_mm)
    height = heart.long_axis_mm - heart.centre_mm
    inner = ellipsoid(clamped, centre, (heart.radius_mm, heart.radius_mm, height))
    half = heart.outer_mm
    outer = ellipsoid(clamped, centre, (half, half, height + 0.8 * heart.wall_mm))
    return inner, outer


def _left_atrium(heart: Heart, material: Points) -> Array:
    x, y, _ = mitral_centre(heart)
    size = heart.la_scale
    depth, width = 27.0 * size, 24.5 * size
    mouth = mitral_radius_mm(heart)
    # the ellipsoid is placed so that its cut at z = 0 is the mitral orifice
    down = depth * math.sqrt(max(0.05, 1.0 - (mouth / width) ** 2))
    return ellipsoid(material, (x, y - 1.0, -down), (width, width * 0.92, depth))


def _right_atrium(heart: Heart, material: Points) -> Array:
    x, y, _ = tricuspid_centre(heart)
    size = heart.ra_scale
    return ellipsoid(material, (x + 1.0, y, -17.0 * size), (24.0 * size, 23.0 * size, 25.0 * size))


def _aorta(heart: Heart, material: Points) -> tuple[Array, Array]:
    """Aortic root behind the base, and the outflow tract before it (part of the cavity)."""
    start = aortic_centre(heart)
    tilt = math.radians(14.0)
    reach = 85.0
    lean = reach * math.sin(tilt)
    end = (
        start[0] + lean * math.cos(AORTIC_ANGLE),
        start[1] + lean * math.sin(AORTIC_ANGLE),
        start[2] - reach * math.cos(tilt),
    )
    radius = 11.5 * heart.aorta_scale
    tube = capsule(material, (start, end), (radius, radius * 1.12))
    sinus = ellipsoid(
        material,
        (start[0], start[1], start[2] - 9.0),
        (radius * 1.28, radius * 1.28, 11.0),
    )
    root = np.maximum(np.minimum(tube, sinus), material[2])
    front = (start[0] * 0.8, start[1] * 0.8, 16.0)
    tract = capsule(material, ((start[0], start[1], 0.0), front), (radius * 0.92, radius * 0.92))
    return root, np.maximum(tract, -material[2])


def _right_ventricle(beat: Beat, material: Points) -> Array:
    """Inflow ellipsoid and outflow tube that wraps in front of the aorta; narrows in systole."""
    heart = beat.heart
    size = heart.rv_scale
    squeeze = 1.0 - 0.22 * beat.share * min(1.0, heart.ejection_fraction / 0.6)
    outer = heart.outer_mm
    body = ellipsoid(
        material,
        (-0.98 * outer, -0.06 * outer, 0.02 * heart.long_axis_mm),
        (31.0 * size * squeeze, 38.0 * size, 0.82 * heart.long_axis_mm),
    )
    body = np.maximum(body, 1.0 - material[2])
    reach = outer + 8.0
    angles = (math.radians(158.0), math.radians(135.0), math.radians(92.0))
    heights = (26.0, -4.0, -30.0)
    first, middle, last = (
        (reach * math.cos(a), reach * math.sin(a), h) for a, h in zip(angles, heights, strict=True)
    )
    radius = 12.5 * size * (0.5 + 0.5 * squeeze)
    outflow = capsule(material, (first, middle), (radius * 1.15, radius))
    trunk = capsule(material, (middle, last), (radius, radius * 0.9))
    joined: Array = np.minimum(body, np.minimum(outflow, trunk))
    return joined


def _papillary(heart: Heart, material: Points) -> Array:
    """Two papillary muscles from the mid wall towards the base."""
    nearest = np.full_like(material[2], _FAR)
    for angle_deg in (338.0, 232.0):
        c, s = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
        low, high = 0.62 * heart.radius_mm, 0.60 * heart.radius_mm
        ends = (
            (high * c, high * s, 0.38 * heart.long_axis_mm),
            (low * c, low * s, 0.72 * heart.long_axis_mm),
        )
        np.minimum(nearest, capsule(material, ends, (3.4, 5.4)), out=nearest)
    return nearest


def _paint(
    heart: Heart, material: Points, chambers: Chambers, outline: Array
) -> tuple[Array, Array]:
    """Echo strength and mirror share of everything but valves and papillary muscles."""
    roughness, slow = _textures(heart, material)
    # fascia and fat lie in sheets around the heart, and fade away from it
    sheets = np.cos(outline * np.float32(0.55) + np.float32(3.0) * slow + roughness)
    sheets *= np.exp(np.maximum(outline, 0.0) * np.float32(-1 / 45.0))
    surround = np.float32(SURROUND_DB) + np.float32(10.0) * slow + np.float32(6.0) * sheets
    below = material[0] * np.float32(-0.77) + material[1] * np.float32(-0.64)
    liver = np.float32(heart.outer_mm + 22.0) - below
    echo = _blend(surround, liver, LIVER_DB, 3.0)
    echo = _blend(echo, outline, MYOCARDIUM_DB + 2.0, 1.5)
    mirror = np.zeros_like(echo)
    sac = np.abs(outline - np.float32(0.8)) - np.float32(1.0)
    echo = _blend(echo, sac, np.float32(PERICARDIUM_DB) + np.float32(8.0) * slow, 0.9)
    mirror = _blend(mirror, sac, 0.75, 0.9)
    mean_db = MYOCARDIUM_DB + heart.echogenicity_db
    muscle = np.float32(mean_db) + np.float32(3.5) * roughness + np.float32(7.0) * slow
    echo = _blend(echo, chambers.wall, muscle, 1.0)
    ring = np.maximum(chambers.wall, material[2] - np.float32(3.0))
    echo = _blend(echo, ring, FIBROUS_DB, 1.5)
    for distance, rough in zip(chambers, (0.9, None, 0.4, 1.4, 0.5, 0.3), strict=True):
        if rough is not None:
            echo = _blend(echo, distance + np.float32(rough) * roughness, BLOOD_DB, 0.8)
    root = np.abs(chambers.aorta - np.float32(0.8)) - np.float32(0.7)
    echo = _blend(echo, np.maximum(root, material[2]), FIBROUS_DB, 0.7)
    mirror = _blend(mirror, np.maximum(root, material[2]), 0.6, 0.7)
    return echo, mirror


def _blend(under: Array, distance: Array, value: Array | float, width: float) -> Array:
    """Paint a value where the distance is negative, with an edge of this half width (mm)."""
    cover = np.clip(np.float32(0.5) - distance * np.float32(0.5 / width), 0.0, 1.0)
    out: Array = under + cover * (value - under)
    return out


def _textures(heart: Heart, material: Points) -> tuple[Array, Array]:
    """A millimetre-scale and a centimetre-scale field, each about -1 to 1, fixed in the tissue."""
    rng = np.random.default_rng(heart.roughness_seed)
    fields = []
    for wavelength_mm, waves in ((8.0, 3), (37.0, 3)):
        total: Array = np.zeros((), np.float32)
        for _ in range(waves):
            direction = rng.normal(size=3)
            direction *= (
                rng.uniform(0.6, 1.4) * 2 * math.pi / wavelength_mm / np.linalg.norm(direction)
            )
            start = rng.uniform(0, 2 * math.pi)
            argument = sum(
                (v * np.float32(k) for v, k in zip(material, direction, strict=True)),
                np.float32(start),
            )
            total = total + np.sin(argument)
        fields.append(total * np.float32(1 / waves))
    return fields[0], fields[1]
