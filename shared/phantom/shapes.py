"""Signed distances in millimetres (negative inside) to the few solids a heart is made of."""

from collections.abc import Sequence

import numpy as np

from shared.phantom.anatomy import Array

Point = tuple[float, float, float]
Points = tuple[Array, Array, Array]


def ellipsoid(points_xyz: Points, centre: Point, half_axes: Point) -> Array:
    """Distance to an ellipsoid, first-order exact near its surface."""
    squares: Array = np.zeros((), np.float32)
    slopes: Array = np.zeros((), np.float32)
    for values, middle, half in zip(points_xyz, centre, half_axes, strict=True):
        part = (values - np.float32(middle)) * np.float32(1.0 / half)
        part *= part
        squares = squares + part
        slopes = slopes + part * np.float32(1.0 / half**2)
    norm = np.sqrt(squares)
    out: Array = norm * (norm - np.float32(1.0)) / np.sqrt(slopes + np.float32(1e-12))
    return out


def capsule(points_xyz: Points, ends: tuple[Point, Point], radii: tuple[float, float]) -> Array:
    """Distance to a rounded rod whose radius changes linearly from end to end."""
    first, last = np.asarray(ends[0]), np.asarray(ends[1])
    along = last - first
    length = float(np.linalg.norm(along))
    axis = along / length
    offsets = [v - np.float32(c) for v, c in zip(points_xyz, first, strict=True)]
    t = _dot(offsets, axis)
    np.clip(t, 0.0, length, out=t)
    rest: Array = np.zeros((), np.float32)
    for offset, component in zip(offsets, axis, strict=True):
        part = offset - t * np.float32(component)
        rest = rest + part * part
    out: Array = np.sqrt(rest) - (
        np.float32(radii[0]) + t * np.float32((radii[1] - radii[0]) / length)
    )
    return out


def leaflet(
    along: Array, height: Array, *, half_chord: Array, length: float, angle: float
) -> Array:
    """Unsigned distance to one valve leaflet seen in the plane across its hinge.

    Args:
        along: coordinate from the annulus centre towards the hinge.
        height: coordinate into the ventricle.
        half_chord: where the hinge lies along that coordinate, for each point; 0 beside the
            annulus.
        length: leaflet length as a share of the half chord.
        angle: 0 lies in the annulus, pi/2 points into the ventricle.
    """
    reach = half_chord * np.float32(length)
    out_along = along - half_chord
    t = out_along * np.float32(-np.cos(angle)) + height * np.float32(np.sin(angle))
    t = np.clip(t, 0.0, np.maximum(reach, 0.0))
    distance = np.hypot(
        out_along + t * np.float32(np.cos(angle)), height - t * np.float32(np.sin(angle))
    )
    out: Array = np.where(half_chord > 0, distance, np.float32(99.0))
    return out


def _dot(offsets: Sequence[Array], axis: np.ndarray) -> Array:
    total = offsets[0] * np.float32(axis[0])
    for offset, component in zip(offsets[1:], axis[1:], strict=True):
        total = total + offset * np.float32(component)
    return total
