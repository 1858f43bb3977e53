"""Errors of what absolute and squared error blur away: edges, and how rough the texture is."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from shared.models.autoencoder import inside_mean

_SCALES = 3  # the picture, and it averaged over 2 x 2 and 4 x 4 pixels
_WINDOW = 8  # pixels a side over which roughness is averaged: a few grains of speckle
_LEAST = 1e-6  # squared grey value; keeps the root's slope finite where a picture is flat


def edge_loss(found_N1HW: Tensor, wanted_N1HW: Tensor, sector_N1HW: Tensor) -> Tensor:
    """Mean absolute error of the differences between neighbours, mean over scales and both axes.

    Only neighbours that both lie inside the sector count, so its border is no edge.
    """
    pairs = _differences(found_N1HW, wanted_N1HW, sector_N1HW)
    return torch.stack([inside_mean((a - b).abs(), inside) for a, b, inside in pairs]).mean()


def texture_loss(found_N1HW: Tensor, wanted_N1HW: Tensor, sector_N1HW: Tensor) -> Tensor:
    """Mean absolute error of roughness, mean over scales and both axes.

    Roughness is the root mean square of the differences between neighbours in a window. Where a
    grain of speckle lies does not matter, so a picture gains by the right texture even where its
    phase cannot be known; by absolute error alone the blurred picture would be best.
    """
    errors = []
    for found, wanted, inside in _differences(found_N1HW, wanted_N1HW, sector_N1HW):
        share = _window_mean(inside)
        rough_found, rough_wanted = (
            (_window_mean(x.square() * inside) / share.clamp(min=_LEAST) + _LEAST).sqrt()
            for x in (found, wanted)
        )
        errors.append(inside_mean((rough_found - rough_wanted).abs(), share))
    return torch.stack(errors).mean()


def _differences(
    found: Tensor, wanted: Tensor, sector: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Differences of both pictures and 1 where they lie inside, by scale and axis."""
    for scale in range(_SCALES):
        if scale:
            found, wanted = (nn.functional.avg_pool2d(x, 2) for x in (found, wanted))
            sector = -nn.functional.max_pool2d(-sector, 2)  # wholly inside
        if min(found.shape[-2:]) < 2:
            return
        for axis in (2, 3):
            length = sector.shape[axis] - 1
            inside = sector.narrow(axis, 0, length) * sector.narrow(axis, 1, length)
            yield found.diff(dim=axis), wanted.diff(dim=axis), inside


def _window_mean(values: Tensor) -> Tensor:
    window = min(_WINDOW, *values.shape[-2:])
    return nn.functional.avg_pool2d(values, window, max(window // 2, 1))
