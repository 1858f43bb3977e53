"""Layers that the denoisers are made of: a residual block with or without a label map, attention.

The block is that of Dhariwal and Nichol 2021 (arXiv 2105.05233): normalise, rectify, convolve,
twice; the noise level scales and shifts after the second normalisation; the last convolution is
zero at first, so that a new block passes on what it is given.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention, silu

from shared.errors import Code, EchoFedError
from shared.models.spade import expect_groups

Norm = Callable[[int], nn.Module]
"""channels -> layer that takes features and a label map."""


class PlainNorm(nn.GroupNorm):
    """Normalisation by groups that takes a label map and does not look at it."""

    def __init__(self, channels: int, *, groups: int) -> None:
        """Build the layer.

        Raises:
            EchoFedError: CONFIG_INVALID for groups that do not divide the channels.
        """
        expect_groups(channels, groups)
        super().__init__(groups, channels)

    def forward(self, x_NCHW: Tensor, _: Tensor | None = None) -> Tensor:
        """Features of the same shape."""
        return super().forward(x_NCHW)


@dataclass(frozen=True, slots=True)
class BlockStyle:
    """What all blocks of a network have in common.

    Args:
        told: length of the vector of noise level and view.
        head: channels of a head of attention, about.
        scales: the vector scales and shifts after the second normalisation; else it is added
            before it (Song et al. 2021, arXiv 2011.13456).
        gain: of each sum of two ways; sqrt(1/2) keeps its variance.
        dropout: before the last convolution.
    """

    told: int
    head: int
    scales: bool = True
    gain: float = 1.0
    dropout: float = 0.0


class ResidualBlock(nn.Module):
    """Two convolutions beside a way straight through, and attention where it is asked for.

    Args:
        channels_in, channels: of what goes in and comes out.
        style: of the network.
        norm: makes every normalisation.
        resample: changes the size of both ways before the first convolution.
        attends: whether every cell looks at every cell in the end.
    """

    def __init__(
        self,
        channels_in: int,
        channels: int,
        *,
        style: BlockStyle,
        norm: Norm,
        resample: nn.Module | None = None,
        attends: bool = False,
    ) -> None:
        """Build the layers.

        Raises:
            EchoFedError: CONFIG_INVALID for channels that groups or heads cannot share.
        """
        super().__init__()
        self.style = style
        self.resample = nn.Identity() if resample is None else resample
        self.first_norm, self.second_norm = norm(channels_in), norm(channels)
        self.first = nn.Conv2d(channels_in, channels, 3, padding=1)
        self.tell = nn.Linear(style.told, channels * (2 if style.scales else 1))
        self.drop = nn.Dropout(style.dropout)
        self.second = zeroed(nn.Conv2d(channels, channels, 3, padding=1))
        same = channels_in == channels
        self.through = nn.Identity() if same else nn.Conv2d(channels_in, channels, 1)
        self.attention = Attention(channels, style=style, norm=norm) if attends else None

    def forward(self, x_NCHW: Tensor, told_ND: Tensor, maps_NLHW: Tensor) -> Tensor:
        """Features of the resampled size."""
        inner_NCHW = self.first(self.resample(silu(self.first_norm(x_NCHW, maps_NLHW))))
        told_NC11 = self.tell(told_ND)[..., None, None]
        if self.style.scales:
            scale_NC11, shift_NC11 = told_NC11.chunk(2, dim=1)
            normal_NCHW = self.second_norm(inner_NCHW, maps_NLHW)
            inner_NCHW = torch.addcmul(shift_NC11, normal_NCHW, 1 + scale_NC11)
        else:
            inner_NCHW = self.second_norm(inner_NCHW + told_NC11, maps_NLHW)
        inner_NCHW = self.second(self.drop(silu(inner_NCHW)))
        sum_NCHW: Tensor = (self.through(self.resample(x_NCHW)) + inner_NCHW) * self.style.gain
        if self.attention is not None:
            sum_NCHW = self.attention(sum_NCHW, maps_NLHW)
        return sum_NCHW


class Attention(nn.Module):
    """Every cell looks at every cell, added to what it was.

    Args:
        channels: of the features.
        style: of the network.
        norm: makes the normalisation before.
    """

    def __init__(self, channels: int, *, style: BlockStyle, norm: Norm) -> None:
        """Build the layers.

        Raises:
            EchoFedError: CONFIG_INVALID for channels that the heads cannot share.
        """
        super().__init__()
        self.gain, self.heads = style.gain, max(1, channels // style.head)
        if channels % self.heads:
            raise EchoFedError(
                Code.CONFIG_INVALID,
                f"{self.heads} heads of attention cannot share {channels} channels",
                f"take a width that is a multiple of {style.head}, or attention elsewhere",
            )
        self.norm = norm(channels)
        self.ask = nn.Conv2d(channels, 3 * channels, 1)
        self.answer = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x_NCHW: Tensor, maps_NLHW: Tensor) -> Tensor:
        """Features of the same shape."""
        asked_NCHW = self.ask(self.norm(x_NCHW, maps_NLHW))
        query, key, value = (
            part.flatten(2).unflatten(1, (self.heads, -1)).mT for part in asked_NCHW.chunk(3, dim=1)
        )
        seen_NCHW = scaled_dot_product_attention(query, key, value).mT.reshape(x_NCHW.shape)
        sum_NCHW: Tensor = (x_NCHW + self.answer(seen_NCHW)) * self.gain
        return sum_NCHW


def zeroed(convolution: nn.Conv2d) -> nn.Conv2d:
    """The convolution with weights and bias of zero."""
    nn.init.zeros_(convolution.weight)
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return convolution
