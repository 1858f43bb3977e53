"""Networks before their first step: for one seed the same wherever they are drawn."""

from collections.abc import Mapping

import torch
from torch import nn

from shared.echo.synthesizer import Option
from shared.models import DENOISERS, SEGMENTERS
from shared.seeding import derive_seed


def draw_segmenter(
    network: str, num_outputs: int, options: Mapping[str, int], *, seed: int
) -> nn.Module:
    """Build a network of the table of segmenters with random weights.

    Args:
        network: its line in the table.
        num_outputs: structures, or landmarks of a contour.
        options: ``width``, ``depth`` and ``patch``.
        seed: of the weights.

    Raises:
        EchoFedError: NAME_UNKNOWN, CONFIG_INVALID for options that no network can have.
    """
    kind = SEGMENTERS[network]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "weights"))
        return kind(num_outputs, **options)


def draw_denoiser(
    network: str, sizes: tuple[int, int, int], options: Mapping[str, Option], *, seed: int
) -> nn.Module:
    """Build a network of the table of denoisers with random weights.

    Args:
        network: its line in the table.
        sizes: channels of the latent, structures of the label map, views.
        options: what it is built with; its own defaults hold for what is left out.
        seed: of the weights.

    Raises:
        EchoFedError: NAME_UNKNOWN, CONFIG_INVALID for options that it does not have or cannot have.
    """
    channels, num_structures, num_views = sizes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "weights"))
        return DENOISERS[network](channels, num_structures, num_views, **options)
