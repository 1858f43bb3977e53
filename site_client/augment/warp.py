"""Random turn, zoom, shift and shading of a frame with all that is said of it.

A zoom changes the spacing, not the heart: distances in mm stay what they were. Nothing is mirrored:
a mirrored heart is another heart.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_WHITE = 255.0


@dataclass(frozen=True, slots=True)
class WarpReach:
    """How far a random change may go.

    Args:
        rotation_deg: uniform in plus and minus this angle.
        zoom: log of the zoom is uniform in plus and minus the log of one plus this share.
        shift: share of the picture's side by which it moves at most.
        brightness: share of white that is added or taken, and change of contrast, at most.
        gamma: log of the exponent of the grey values is uniform in plus and minus this.
    """

    rotation_deg: float
    zoom: float
    shift: float
    brightness: float
    gamma: float


@dataclass(frozen=True, slots=True, eq=False)
class Warp:
    """A change of each of N square frames.

    Args:
        matrix_N23: place in the changed frame -> place in the frame, both in -1..1 of the side.
        zoom_N: how much larger things are afterwards.
        shift_N: share of white that is added; ``gain_N`` factor, ``gamma_N`` exponent of the greys.
    """

    matrix_N23: Tensor
    zoom_N: NDArray[np.float64]
    shift_N: NDArray[np.float64]
    gain_N: NDArray[np.float64]
    gamma_N: NDArray[np.float64]


def draw_warp(reach: WarpReach, num: int, generator: np.random.Generator) -> Warp:
    """Draw a change for each of ``num`` frames."""
    uniform_7N = generator.uniform(-1.0, 1.0, (7, num))
    angle_N = np.radians(reach.rotation_deg) * uniform_7N[0]
    zoom_N = np.exp(np.log1p(reach.zoom) * uniform_7N[1])
    cosine_N, sine_N = np.cos(angle_N) / zoom_N, np.sin(angle_N) / zoom_N
    right_N, down_N = 2 * reach.shift * uniform_7N[2], 2 * reach.shift * uniform_7N[3]
    rows = np.stack([[cosine_N, -sine_N, right_N], [sine_N, cosine_N, down_N]])
    return Warp(
        torch.from_numpy(rows.transpose(2, 0, 1).copy()),
        zoom_N,
        shift_N=reach.brightness * uniform_7N[4],
        gain_N=1 + reach.brightness * uniform_7N[5],
        gamma_N=np.exp(reach.gamma * uniform_7N[6]),
    )


def warp_maps(maps_NHW: Tensor, warp: Warp, *, is_nearest: bool, repeats_edge: bool) -> Tensor:
    """Maps of square frames (N, S, S), as floats.

    Args:
        maps_NHW: one for each change.
        warp: the changes.
        is_nearest: take the nearest pixel, for labels; else bilinear.
        repeats_edge: what comes from outside is the edge; else 0.
    """
    grid_NHW2 = torch.nn.functional.affine_grid(
        warp.matrix_N23.float().to(maps_NHW.device),
        [len(maps_NHW), 1, *maps_NHW.shape[1:]],
        align_corners=False,
    )
    warped: Tensor = torch.nn.functional.grid_sample(
        maps_NHW[:, None].float(),
        grid_NHW2,
        mode="nearest" if is_nearest else "bilinear",
        padding_mode="border" if repeats_edge else "zeros",
        align_corners=False,
    )[:, 0]
    return warped


def warp_points(points_xy_px_NK2: Tensor, warp: Warp, side: int) -> Tensor:
    """Where points (column, row) of square frames of that side lie afterwards."""
    place_NK2 = (2 * points_xy_px_NK2 + 1) / side - 1
    turn_N22, move_N12 = warp.matrix_N23[:, :, :2], warp.matrix_N23[:, None, :, 2]
    moved_NK2 = torch.linalg.solve(turn_N22, (place_NK2 - move_N12).mT).mT
    out: Tensor = ((moved_NK2 + 1) * side - 1) / 2
    return out


def shade(pixels_NHW: Tensor, warp: Warp) -> Tensor:
    """Grey values 0..255 with another exponent, contrast and brightness; black stays black."""
    gamma_N11, gain_N11, shift_N11 = (
        torch.from_numpy(values).float().to(pixels_NHW.device)[:, None, None]
        for values in (warp.gamma_N, warp.gain_N, warp.shift_N)
    )
    curved_NHW = _WHITE * (pixels_NHW / _WHITE) ** gamma_N11
    shaded_NHW = (curved_NHW * gain_N11 + _WHITE * shift_N11).clamp(0, _WHITE)
    return torch.where(pixels_NHW > 0, shaded_NHW, pixels_NHW)
