"""The plain U-Net: encoder, decoder and skips, for frames of any size.

Ronneberger et al. 2015 (arXiv 1505.04597) in the form that nnU-Net found hard to beat (Isensee et
al. 2021, Nature Methods 18:203): strided convolutions down, transposed ones up, leaky rectifiers.
Where pixels are read in patches, the answer is rearranged from channels (sub-pixel convolution, Shi
et al. 2016, arXiv 1609.05158): a quarter of the work for patches of two by two.
"""

from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from shared.errors import Code, EchoFedError
from shared.models.blocks import conv_pair, point_head

WIDEST = 512
"""Channels of the deepest level at most, as in nnU-Net."""


class UNetTrunk(nn.Module):
    """Image -> decoder features, one for every patch of it.

    Args:
        in_chans: channels of the image.
        width: channels of the first level; each below has twice as many, 512 at most.
        depth: halvings; the deepest map sees squares of patch * 2 ** depth pixels.
        patch: pixels a side that the first layer reads as one; 1 for features of full size.
    """

    def __init__(
        self, in_chans: int = 1, *, width: int = 32, depth: int = 5, patch: int = 1
    ) -> None:
        """Build the layers; weights are drawn from torch's generator.

        Raises:
            EchoFedError: CONFIG_INVALID for a depth or patch below one or a width that cannot be
                grouped.
        """
        super().__init__()
        if depth < 1 or patch < 1:
            raise EchoFedError(
                Code.CONFIG_INVALID,
                f"a U-Net of depth {depth} on patches of {patch} has no levels",
                "take 1 or more of both",
            )
        self.width, self.patch, self.stride = width, patch, patch * 2**depth
        widths = [min(width * 2**level, WIDEST) for level in range(depth + 1)]
        self.gather = nn.PixelUnshuffle(patch)
        self.stem = conv_pair(in_chans * patch**2, width)
        self.down = nn.ModuleList(
            conv_pair(upper, lower, stride=2) for upper, lower in pairwise(widths)
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(lower, upper, 2, 2, bias=False) for upper, lower in pairwise(widths)
        )
        self.join = nn.ModuleList(conv_pair(2 * upper, upper) for upper in widths[:-1])

    def levels(self, image_NCHW: Tensor) -> list[Tensor]:
        """The encoder's features, the finest first, half as many cells a side with each.

        The edge is repeated up to the next multiple of the stride.
        """
        height, width = image_NCHW.shape[-2:]
        below, right = -height % self.stride, -width % self.stride
        padded_NCHW = nn.functional.pad(image_NCHW, (0, right, 0, below), mode="replicate")
        maps: list[Tensor] = [self.stem(self.gather(padded_NCHW))]
        for down in self.down:
            maps.append(down(maps[-1]))
        return maps

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """Features (N, D, H', W'); the edge is repeated up to the next multiple of the stride.

        With patches of p, H' is H over p, rounded up.
        """
        height, width = image_NCHW.shape[-2:]
        maps = self.levels(image_NCHW)
        lower: Tensor = maps.pop()
        while maps:
            level = len(maps) - 1
            lower = self.join[level](torch.cat([maps.pop(), self.up[level](lower)], dim=1))
        return lower[..., : -(-height // self.patch), : -(-width // self.patch)]


class PixelHead(nn.Module):
    """Trunk features -> outputs for every pixel of the image.

    Args:
        trunk: whose features are read.
        num_outputs: values of each pixel.
        scale: deviation of the first outputs, about.
    """

    def __init__(self, trunk: UNetTrunk, num_outputs: int, *, scale: float = 1.0) -> None:
        """Build the head."""
        super().__init__()
        self.head = point_head(trunk.width, num_outputs * trunk.patch**2, scale=scale)
        self.spread = nn.PixelShuffle(trunk.patch)

    def forward(self, features_NDHW: Tensor, size_HW: tuple[int, int]) -> Tensor:
        """Outputs (N, outputs, H, W) of an image of that size."""
        out: Tensor = self.spread(self.head(features_NDHW))
        return out[..., : size_HW[0], : size_HW[1]]


class UNet(nn.Module):
    """A structure's logit for every pixel.

    Args:
        num_outputs: structures, the background among them.
        in_chans: channels of the image.
        width, depth, patch: as in ``UNetTrunk``.
    """

    answers: ClassVar[Literal["masks"]] = "masks"

    def __init__(
        self,
        num_outputs: int,
        in_chans: int = 1,
        *,
        width: int = 32,
        depth: int = 5,
        patch: int = 1,
    ) -> None:
        """Build trunk and head."""
        super().__init__()
        self.trunk = UNetTrunk(in_chans, width=width, depth=depth, patch=patch)
        self.head = PixelHead(self.trunk, num_outputs)

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """Logits (N, structures, H, W)."""
        height, width = image_NCHW.shape[-2:]
        logits_NSHW: Tensor = self.head(self.trunk(image_NCHW), (height, width))
        return logits_NSHW
