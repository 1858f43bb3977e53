"""Encoder and decoder that the autoencoders share.

The convolutional pair of latent diffusion (Rombach et al. 2022, arXiv 2112.10752): residual blocks,
strided convolutions down, nearest neighbour and a convolution up, attention at the coarsest level
if asked for. Pixels may be read in patches (PixelUnshuffle) and written in patches (sub-pixel
convolution, Shi et al. 2016, arXiv 1609.05158), which leaves out the costliest level.
"""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from shared.errors import Code, EchoFedError
from shared.models.blocks import GROUPS


class ResidualBlock(nn.Module):
    """Two convolutions, each after normalisation in groups and SiLU, beside the identity."""

    def __init__(self, width: int) -> None:
        """Build the layers."""
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [nn.GroupNorm(GROUPS, width), nn.SiLU(), nn.Conv2d(width, width, 3, 1, 1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, features_NDHW: Tensor) -> Tensor:
        """Features of the same shape."""
        changed_NDHW: Tensor = self.layers(features_NDHW)
        return features_NDHW + changed_NDHW


class SelfAttention(nn.Module):
    """Attention of one head between all places of a map, beside the identity."""

    def __init__(self, width: int) -> None:
        """Build the layers."""
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, width)
        self.ask = nn.Linear(width, 3 * width)
        self.answer = nn.Linear(width, width)

    def forward(self, features_NDHW: Tensor) -> Tensor:
        """Features of the same shape."""
        tokens_N1LD = self.norm(features_NDHW).flatten(2).transpose(1, 2)[:, None]
        query, key, value = self.ask(tokens_N1LD).chunk(3, dim=-1)
        mixed_N1LD = nn.functional.scaled_dot_product_attention(query, key, value)
        answer_NDL: Tensor = self.answer(mixed_N1LD)[:, 0].transpose(1, 2)
        return features_NDHW + answer_NDL.reshape(features_NDHW.shape)


def encoder_layers(
    widths: Sequence[int], num_outputs: int, *, blocks: int, attention: bool, patch: int
) -> nn.Sequential:
    """Image (N, 1, H, W) -> outputs (N, num_outputs, H / f, W / f), f = patch * 2**(levels - 1).

    Args:
        widths: channels of the levels, finest first.
        num_outputs: channels of the answer.
        blocks: residual blocks of a level.
        attention: whether the coarsest level attends to itself, after each block and once more.
        patch: pixels a side that the first layer reads as one.

    Raises:
        EchoFedError: CONFIG_INVALID for no level, block or patch, or a width that has no groups.
    """
    _expect_buildable(widths, blocks, patch)
    first = nn.Conv2d(patch**2, widths[0], 3, 1, 1)
    layers: list[nn.Module] = [nn.PixelUnshuffle(patch), first]
    layers += _level(widths[0], blocks, attention=attention and len(widths) == 1)
    for place, (finer, coarser) in enumerate(pairwise(widths), start=2):
        layers.append(nn.Conv2d(finer, coarser, 3, 2, 1))
        layers += _level(coarser, blocks, attention=attention and place == len(widths))
    layers += _middle(widths[-1]) if attention else []
    return nn.Sequential(*layers, *_last(widths[-1], num_outputs))


def decoder_layers(
    widths: Sequence[int], num_inputs: int, *, blocks: int, attention: bool, patch: int
) -> nn.Sequential:
    """Latent (N, num_inputs, h, w) -> image (N, 1, h * f, w * f), not clamped.

    Args:
        widths: channels of the levels, finest first.
        num_inputs: channels of the latent.
        blocks: residual blocks of a level.
        attention: whether the coarsest level attends to itself.
        patch: pixels a side that the last layer writes as one.

    Raises:
        EchoFedError: CONFIG_INVALID.
    """
    _expect_buildable(widths, blocks, patch)
    layers: list[nn.Module] = [nn.Conv2d(num_inputs, widths[-1], 3, 1, 1)]
    layers += _middle(widths[-1]) if attention else []
    layers += _level(widths[-1], blocks, attention=attention)
    for coarser, finer in pairwise(reversed(widths)):
        layers += [nn.Upsample(scale_factor=2.0), nn.Conv2d(coarser, finer, 3, 1, 1)]
        layers += _level(finer, blocks, attention=False)
    return nn.Sequential(*layers, *_last(widths[0], patch**2), nn.PixelShuffle(patch))


def _level(width: int, blocks: int, *, attention: bool) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for _ in range(blocks):
        layers += [ResidualBlock(width), *([SelfAttention(width)] if attention else [])]
    return layers


def _middle(width: int) -> list[nn.Module]:
    return [ResidualBlock(width), SelfAttention(width), ResidualBlock(width)]


def _last(width: int, num_outputs: int) -> list[nn.Module]:
    return [nn.GroupNorm(GROUPS, width), nn.SiLU(), nn.Conv2d(width, num_outputs, 3, 1, 1)]


def _expect_buildable(widths: Sequence[int], blocks: int, patch: int) -> None:
    fit = all(width >= GROUPS and width % GROUPS == 0 for width in widths)
    if not widths or blocks < 1 or patch < 1 or not fit:
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"no autoencoder has widths {tuple(widths)}, {blocks} blocks and patches of {patch}",
            f"take widths that are multiples of {GROUPS}, and at least one level, block and pixel",
        )
