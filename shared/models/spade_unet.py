"""Our denoiser: a small U-Net that is told the label map at the door and in its decoder.

Made to be fast on a processor: one way across per level, halvings by one strided convolution,
little modulation, attention only where it is asked for.
"""

from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, silu

from shared.echo.synthesizer import Option
from shared.models.conditioning import Conditioning, geometric
from shared.models.denoiser import (
    DenoiserOptions,
    expect_asked,
    expect_positive,
    read_options,
)
from shared.models.residual import BlockStyle, Norm, PlainNorm, ResidualBlock, zeroed
from shared.models.spade import Spade, area_map

GROUPS = 8
"""Channels are normalised in this many groups."""
HEAD = 32
"""Channels of a head of attention, about."""


@dataclass(frozen=True, slots=True)
class SpadeUNetOptions(DenoiserOptions):
    """What the network is built with.

    Args:
        patch: cells a side that are read as one, for a network on pixels.
        fold: places a side that the door reads of the map in each cell, as channels; 1 for its
            mean over the cell. As many as the cell has pixels, and edges are told exactly.
    """

    patch: int = 1
    fold: int = 1

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            EchoFedError: CONFIG_INVALID naming the option and the way out.
        """
        DenoiserOptions.__post_init__(self)
        expect_positive("patch", self.patch)
        expect_positive("fold", self.fold)


class SpadeUNet(nn.Module):
    """Noisy latent, noise level, label map, view -> the network's answer.

    Args:
        channels: of the latent.
        num_structures: of the label map.
        num_views: views; the place behind them stands for a view that is not told.
        options: of ``SpadeUNetOptions``.
    """

    def __init__(
        self, channels: int, num_structures: int, num_views: int, **options: Option
    ) -> None:
        """Build the layers; weights are drawn from torch's generator.

        Raises:
            EchoFedError: CONFIG_INVALID for options that cannot be.
        """
        super().__init__()
        own = read_options(SpadeUNetOptions, options)
        widths, patch = own.widths, own.patch
        style = BlockStyle(told=4 * own.width, head=HEAD, dropout=own.dropout)
        plain = partial(PlainNorm, groups=GROUPS)
        modulated = partial(Spade, num_structures=num_structures, hidden=own.hidden, groups=GROUPS)
        self.sizes = {"C": channels, "L": num_structures, "stride": patch * 2 ** (len(widths) - 1)}
        self.told = Conditioning(geometric(own.width), style.told, num_views)
        self.gather = nn.PixelUnshuffle(patch)
        self.fold = nn.PixelUnshuffle(own.fold)
        door = (channels + num_structures * own.fold**2) * patch**2
        self.stem = nn.Conv2d(door, own.width, 3, padding=1)

        def levels(norm: Norm) -> nn.ModuleList:
            return nn.ModuleList(
                ResidualBlock(width, width, style=style, norm=norm, attends=level in own.attention)
                for level, width in enumerate(widths)
                for _ in range(own.blocks)
            )

        self.down, self.up, self.blocks = levels(plain), levels(modulated), own.blocks
        self.shrink = nn.ModuleList(
            nn.Conv2d(upper, lower, 3, 2, 1) for upper, lower in pairwise(widths)
        )
        self.grow = nn.ModuleList(nn.Conv2d(lower, upper, 1) for upper, lower in pairwise(widths))
        self.join = nn.ModuleList(nn.Conv2d(2 * upper, upper, 1) for upper in widths[:-1])
        self.last_norm = plain(own.width)
        self.last = zeroed(nn.Conv2d(own.width, channels * patch**2, 3, padding=1))
        self.spread = nn.PixelShuffle(patch)

    def forward(self, x_NCHW: Tensor, noise_N: Tensor, maps_NLHW: Tensor, view_N: Tensor) -> Tensor:
        """The answer (N, C, H, W); zero everywhere before training.

        Raises:
            EchoFedError: SHAPE_MISMATCH for shapes that the network was not built for.
        """
        expect_asked(x_NCHW, noise_N, maps_NLHW, view_N, sizes=self.sizes)
        told_ND = self.told(noise_N, view_N)
        height, width = x_NCHW.shape[-2:]
        # channels last is the order in which processors convolve fastest, and it is handed on
        maps_NLHW = maps_NLHW.to(x_NCHW.dtype, memory_format=torch.channels_last)
        fold = self.fold.downscale_factor
        told_NDHW = self.fold(area_map(maps_NLHW, (height * fold, width * fold)))
        door_NCHW = torch.cat([x_NCHW, told_NDHW], dim=1)
        h_NCHW = self.stem(self.gather(door_NCHW).contiguous(memory_format=torch.channels_last))
        across: list[Tensor] = []
        for level in range(len(self.shrink) + 1):
            h_NCHW = self.shrink[level - 1](h_NCHW) if level else h_NCHW
            for block in self.down[level * self.blocks : (level + 1) * self.blocks]:
                h_NCHW = block(h_NCHW, told_ND, maps_NLHW)
            across.append(h_NCHW)
        for level in reversed(range(len(across))):
            if level < len(self.grow):
                grown_NCHW = interpolate(self.grow[level](h_NCHW), scale_factor=2.0)
                h_NCHW = self.join[level](torch.cat([across[level], grown_NCHW], dim=1))
            for block in self.up[level * self.blocks : (level + 1) * self.blocks]:
                h_NCHW = block(h_NCHW, told_ND, maps_NLHW)
        answer_NCHW: Tensor = self.spread(self.last(silu(self.last_norm(h_NCHW))))
        return answer_NCHW
