"""Annuli and leaflets of the mitral, tricuspid and aortic valves."""

import math

import numpy as np

from shared.phantom.anatomy import Array, Heart, aortic_opening, mitral_opening
from shared.phantom.shapes import Point, Points, leaflet

AORTIC_ANGLE = math.radians(150.0)
_SEPTAL_ANGLE = math.radians(200.0)
_FAR = np.float32(99.0)


def aortic_centre(heart: Heart) -> Point:
    """Centre of the aortic annulus at end diastole."""
    reach = 0.64 * heart.radius_mm
    return (reach * math.cos(AORTIC_ANGLE), reach * math.sin(AORTIC_ANGLE), -1.0)


def mitral_radius_mm(heart: Heart) -> float:
    """Radius of the mitral annulus."""
    return 0.60 * heart.radius_mm + 1.0


def mitral_centre(heart: Heart) -> Point:
    """Centre of the mitral annulus at end diastole."""
    reach = -0.34 * heart.radius_mm
    return (reach * math.cos(AORTIC_ANGLE), reach * math.sin(AORTIC_ANGLE), 0.0)


def tricuspid_centre(heart: Heart) -> Point:
    """Centre of the tricuspid annulus, a little nearer the apex than the mitral one."""
    reach = heart.outer_mm + 11.0 * heart.rv_scale
    return (reach * math.cos(_SEPTAL_ANGLE), reach * math.sin(_SEPTAL_ANGLE), 4.0)


def leaflet_distance(heart: Heart, phase: float, material: Points) -> Array:
    """Distance to the leaflets of the three valves, minus their thickness."""
    z = material[2]
    nearest = np.full(z.shape, _FAR, np.float32)
    near = np.flatnonzero(np.abs(z - 4.0) < 26.0)
    x, y, z = (values.reshape(-1)[near] for values in material)
    opening = mitral_opening(heart, phase)
    mitral = _atrioventricular(
        (x, y, z), mitral_centre(heart), AORTIC_ANGLE, mitral_radius_mm(heart), opening
    )
    tricuspid = _atrioventricular(
        (x, y, z), tricuspid_centre(heart), _SEPTAL_ANGLE, 13.5 * heart.rv_scale, opening
    )
    aortic = _aortic_cusps(heart, (x, y, z), aortic_opening(heart, phase))
    found = np.minimum(np.minimum(mitral - 0.8, tricuspid - 0.6), aortic - 0.5)
    nearest.reshape(-1)[near] = found
    return nearest


def _atrioventricular(
    points: Points, centre: Point, angle: float, radius: float, opening: float
) -> Array:
    """Two leaflets hinged on a round annulus; the longer one lies towards `angle`."""
    dx, dy = points[0] - np.float32(centre[0]), points[1] - np.float32(centre[1])
    height = points[2] - np.float32(centre[2])
    c, s = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    along, across = dx * c + dy * s, dy * c - dx * s
    chord = np.sqrt(np.maximum(np.float32(radius**2) - across * across, 0.0))
    swing = math.radians(14.0 + 58.0 * opening)
    front = leaflet(along, height, half_chord=chord, length=1.28, angle=swing)
    back = leaflet(-along, height, half_chord=chord, length=0.84, angle=swing * 1.05)
    nearest: Array = np.minimum(front, back)
    return nearest


def _aortic_cusps(heart: Heart, points: Points, opening: float) -> Array:
    """Three cusps: a star of commissure lines when shut, a triangle near the wall when open."""
    centre = aortic_centre(heart)
    radius = 11.5 * heart.aorta_scale
    dx, dy = points[0] - np.float32(centre[0]), points[1] - np.float32(centre[1])
    height = -points[2] + np.float32(centre[2])
    rho = np.hypot(dx, dy)
    turn = np.float32(2 * math.pi / 3)
    azimuth = np.mod(np.arctan2(dy, dx) - np.float32(AORTIC_ANGLE), turn)
    from_line = rho * np.sin(np.minimum(azimuth, turn - azimuth))
    # shut cusps are domes: the free edge stands up, the belly hangs towards the ventricle
    edge = np.abs(from_line - np.float32(0.72 * radius * opening))
    beyond = np.maximum(np.maximum(-height - 1.0, height - 9.0), 0.0)
    sheet = np.hypot(edge, beyond)
    out: Array = np.where(rho < radius * 1.15, sheet, _FAR)
    return out
