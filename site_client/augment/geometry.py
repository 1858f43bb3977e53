"""Random rotation, flip, brightness and contrast of a frame together with its sector mask.

As in both papers (Bransby et al. 2024, arXiv 2407.21577 and 2406.19148): rotation always, bicubic
with edge-replicating border; left-right flip; brightness and contrast by up to a given share.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_WHITE = 255.0


@dataclass(frozen=True, slots=True, eq=False)
class MaskedFrames:
    """Frames with their sectors.

    Args:
        pixels_N1HW: float32 in 0..255.
        mask_N1HW: True inside the sector.
    """

    pixels_N1HW: Tensor
    mask_N1HW: Tensor


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a random change may go.

    Args:
        rotation_deg: rotation is uniform in plus and minus this angle.
        flip_probability: chance of a left-right flip.
        brightness: share of white that is added or taken, and change of contrast, at most.
    """

    rotation_deg: float
    flip_probability: float
    brightness: float


PAPER_REACH = Reach(rotation_deg=30.0, flip_probability=0.5, brightness=0.15)
"""Both papers' augmentation; exports use it whatever a site trained its expert with."""


@dataclass(frozen=True, slots=True, eq=False)
class Changes:
    """One random change a frame.

    Args:
        angle_deg_N: rotation.
        flips_N: True where left and right are exchanged.
        shift_N: share of white that is added.
        gain_N: factor of the grey values.
    """

    angle_deg_N: NDArray[np.float64]
    flips_N: NDArray[np.bool_]
    shift_N: NDArray[np.float64]
    gain_N: NDArray[np.float64]


def draw_changes(reach: Reach, num: int, generator: np.random.Generator) -> Changes:
    """Draw a change for each of ``num`` frames."""
    uniform_4N = generator.uniform(-1.0, 1.0, (4, num))
    return Changes(
        angle_deg_N=reach.rotation_deg * uniform_4N[0],
        flips_N=(uniform_4N[1] + 1) / 2 < reach.flip_probability,
        shift_N=reach.brightness * uniform_4N[2],
        gain_N=1 + reach.brightness * uniform_4N[3],
    )


def join_changes(parts: Sequence[Changes]) -> Changes:
    """The changes of several draws, one after the other."""
    return Changes(
        np.concatenate([part.angle_deg_N for part in parts]),
        np.concatenate([part.flips_N for part in parts]),
        np.concatenate([part.shift_N for part in parts]),
        np.concatenate([part.gain_N for part in parts]),
    )


def change_frames(frames: MaskedFrames, changes: Changes) -> MaskedFrames:
    """Change frames and masks together; grey values stay within 0..255.

    The mask takes the nearest pixel and, like the frame, repeats its edge.
    """
    grid_NHW2 = _sampling_grid(frames.pixels_N1HW, changes)
    turned_N1HW = _sample(frames.pixels_N1HW, grid_NHW2, mode="bicubic")
    mask_N1HW = _sample(frames.mask_N1HW.float(), grid_NHW2, mode="nearest") > 0.5
    gain_N111 = torch.from_numpy(changes.gain_N).float().view(-1, 1, 1, 1)
    shift_N111 = torch.from_numpy(changes.shift_N).float().view(-1, 1, 1, 1)
    shaded_N1HW = turned_N1HW.mul_(gain_N111).add_(_WHITE * shift_N111).clamp_(0, _WHITE)
    return MaskedFrames(shaded_N1HW, mask_N1HW)


def normalise(pixels_N1HW: Tensor) -> Tensor:
    """Clip to 0..255, scale to 0..1 and z-score each image; an image of one grey becomes zero."""
    flat_NP = pixels_N1HW.clamp(0, _WHITE).div_(_WHITE).flatten(1)
    flat_NP -= flat_NP.mean(dim=1, keepdim=True)
    flat_NP /= flat_NP.square().mean(dim=1, keepdim=True).sqrt_().clamp_min_(1e-6)
    return flat_NP.view(pixels_N1HW.shape)


def _sampling_grid(pixels_N1HW: Tensor, changes: Changes) -> Tensor:
    """Where each output pixel looks, in torch's coordinates; a flip comes after the rotation.

    The outer sums are five times as fast as torch's affine_grid.
    """
    height, width = pixels_N1HW.shape[2:]
    angle_N = torch.from_numpy(np.radians(changes.angle_deg_N)).float()
    sign_N11 = torch.from_numpy(np.where(changes.flips_N, -1.0, 1.0)).float().view(-1, 1, 1)
    cosine_N11, sine_N11 = torch.cos(angle_N).view(-1, 1, 1), torch.sin(angle_N).view(-1, 1, 1)
    right_W = (2 * torch.arange(width) + 1) / width - 1
    down_H1 = ((2 * torch.arange(height) + 1) / height - 1).view(-1, 1)
    grid_NHW2 = torch.empty(len(angle_N), height, width, 2)
    grid_NHW2[..., 0] = sign_N11 * cosine_N11 * right_W - sine_N11 * down_H1 * height / width
    grid_NHW2[..., 1] = sign_N11 * sine_N11 * right_W * width / height + cosine_N11 * down_H1
    return grid_NHW2


def _sample(images_N1HW: Tensor, grid_NHW2: Tensor, *, mode: str) -> Tensor:
    return torch.nn.functional.grid_sample(
        images_N1HW, grid_NHW2, mode=mode, padding_mode="border", align_corners=False
    )
