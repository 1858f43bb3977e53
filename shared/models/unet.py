"""The plain U-Net: encoder, decoder and skips, for frames of any size.

Ronneberger et al. 2015 (arXiv 1505.04597) in the form that nnU-Net found hard to beat (Isensee et
al. 2021, Nature Methods 18:203): strided convolutions down, transposed ones up, leaky rectifiers,
no other devices.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from shared.errors import Code, EchoFedError
from shared.models.blocks import conv_pair, small_head

_WIDEST = 512  # channels of the deepest level at most, as in nnU-Net


class UNetTrunk(nn.Module):
    """Image -> decoder features of its own size.

    Args:
        in_chans: channels of the image.
        width: channels at full size; each level below has twice as many, 512 at most.
        depth: halvings; the deepest map sees squares of 2 ** depth pixels.
    """

    def __init__(self, in_chans: int = 1, *, width: int = 32, depth: int = 5) -> None:
        """Build the layers; weights are drawn from torch's generator.

        Raises:
            EchoFedError: CONFIG_INVALID for a depth below one or a width that cannot be grouped.
        """
        super().__init__()
        if depth < 1:
            raise EchoFedError(
                Code.CONFIG_INVALID, f"a U-Net of depth {depth} has no levels", "take 1 or more"
            )
        self.width, self.stride = width, 2**depth
        widths = [min(width * 2**level, _WIDEST) for level in range(depth + 1)]
        self.stem = conv_pair(in_chans, width)
        self.down = nn.ModuleList(
            conv_pair(upper, lower, stride=2) for upper, lower in pairwise(widths)
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(lower, upper, 2, 2, bias=False) for upper, lower in pairwise(widths)
        )
        self.join = nn.ModuleList(conv_pair(2 * upper, upper) for upper in widths[:-1])

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """Features (N, D, H, W); the edge is repeated up to the next multiple of the stride."""
        height, width = image_NCHW.shape[-2:]
        below, right = -height % self.stride, -width % self.stride
        maps = [self.stem(nn.functional.pad(image_NCHW, (0, right, 0, below), mode="replicate"))]
        for down in self.down:
            maps.append(down(maps[-1]))
        lower: Tensor = maps.pop()
        while maps:
            level = len(maps) - 1
            lower = self.join[level](torch.cat([maps.pop(), self.up[level](lower)], dim=1))
        return lower[..., :height, :width]


class UNet(nn.Module):
    """A structure's logit for every pixel.

    Args:
        num_outputs: structures, the background among them.
        in_chans: channels of the image.
        width: channels at full size.
        depth: halvings.
    """

    def __init__(
        self, num_outputs: int, in_chans: int = 1, *, width: int = 32, depth: int = 5
    ) -> None:
        """Build trunk and head; the first probabilities are near equal."""
        super().__init__()
        self.trunk = UNetTrunk(in_chans, width=width, depth=depth)
        self.head = small_head(width, num_outputs)

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """Logits (N, structures, H, W)."""
        logits_NSHW: Tensor = self.head(self.trunk(image_NCHW))
        return logits_NSHW
