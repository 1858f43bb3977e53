"""A segmenter's network before its first step: for one seed the same wherever it is drawn."""

from collections.abc import Mapping

import torch
from torch import nn

from shared.models import SEGMENTERS
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
