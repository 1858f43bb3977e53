"""What all autoencoders share: the sector in image and latent, and what is refused.

All that an autoencoder reads or writes lies inside the sector. The image is masked before it is
encoded, so a latent says nothing of what stood outside; a cell of the latent is kept if any of its
pixels lies inside, and is 0 otherwise; a latent is masked before it is decoded, the image after.
"""

import inspect
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from shared.echo.synthesizer import Option
from shared.errors import Code, EchoFedError
from shared.models import AUTOENCODERS, Autoencoder
from shared.seeding import derive_seed
from shared.shapes import expect


def draw_autoencoder(name: str, options: Mapping[str, Option], *, seed: int) -> nn.Module:
    """Build an autoencoder of the table with random weights, for one seed the same everywhere.

    Args:
        name: its line in the table.
        options: what it is built with; its own defaults hold for what is left out.
        seed: of the weights.

    Raises:
        EchoFedError: NAME_UNKNOWN, CONFIG_INVALID for options that it does not have or cannot have.
    """
    kind = AUTOENCODERS[name]
    known = inspect.signature(kind).parameters
    strange = [option for option in options if option not in known]
    if strange:
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"autoencoder {name!r} has no option {strange[0]!r}",
            f"known: {', '.join(known) or 'none'}",
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "weights"))
        return cast(nn.Module, kind(**options))


def sector_cells(sector_N1HW: Tensor, factor: int) -> Tensor:
    """The sector in the latent (N, 1, H / factor, W / factor): 1 where any pixel lies inside."""
    return nn.functional.max_pool2d(sector_N1HW, factor) if factor > 1 else sector_N1HW


def masked_image(image_N1HW: Tensor, sector_N1HW: Tensor, factor: int) -> Tensor:
    """The image inside the sector, 0 outside.

    Raises:
        EchoFedError: SHAPE_MISMATCH where image and sector differ, or a side is no multiple of the
            factor.
    """
    found = expect(image_N1HW, "N C H W", C=1)
    expect(sector_N1HW, "N C H W", **found)
    if found["H"] % factor or found["W"] % factor:
        raise EchoFedError(
            Code.SHAPE_MISMATCH,
            f"an image of {found['H']} x {found['W']} has no latent of a {factor}-th of the side",
            f"take sides that are multiples of {factor}",
        )
    return image_N1HW * sector_N1HW


def inside_mean(values_NCHW: Tensor, weight_NCHW: Tensor) -> Tensor:
    """Mean of the values weighted by 0 and 1; 0 where nothing lies inside."""
    return (values_NCHW * weight_NCHW).sum() / weight_NCHW.sum().clamp(min=1)


def as_autoencoder(network: nn.Module) -> Autoencoder:
    """The network by its doors."""
    return cast(Autoencoder, network)
