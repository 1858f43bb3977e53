"""The denoisers of the published systems, under a label map: ADM, DDPM++ and NCSN++.

Written from the papers: ADM by Dhariwal and Nichol 2021 (arXiv 2105.05233), DDPM++ and NCSN++ by
Song et al. 2021 (arXiv 2011.13456) with the choices of Karras et al. 2022 (arXiv 2206.00364, tables
7 and 8); and the label map by Wang et al. 2022 (arXiv 2207.00050): the encoder does not see it, all
normalisations behind the encoder are modulated by it.
"""

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import sqrt
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from shared.echo.synthesizer import Option
from shared.errors import Code, EchoFedError
from shared.models.conditioning import FREQUENCIES, Conditioning
from shared.models.denoiser import DenoiserOptions, expect_asked, read_options
from shared.models.resample import MEAN, SMOOTH, Resample
from shared.models.residual import BlockStyle, Norm, PlainNorm, ResidualBlock, zeroed
from shared.models.spade import Spade

HEAD = 64
"""Channels of a head of attention, about."""
MOST_GROUPS, GROUP = 32, 4
"""Groups that are normalised, at most, and the channels of each, at least."""


@dataclass(frozen=True, slots=True)
class AdmOptions(DenoiserOptions):
    """What ADM is built with; the defaults are those for ImageNet at 64 pixels.

    Args:
        learns_variance: as many channels again, for the variance.
        embedding: frequencies that tell the noise level, a name in ``FREQUENCIES``.
    """

    width: int = 192
    mults: tuple[int, ...] = (1, 2, 3, 4)
    blocks: int = 3
    attention: tuple[int, ...] = (1, 2, 3)
    hidden: int = 128
    learns_variance: bool = False
    embedding: str = "positional"

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            EchoFedError: CONFIG_INVALID naming the option and the way out.
        """
        DenoiserOptions.__post_init__(self)
        if self.embedding not in FREQUENCIES:
            raise EchoFedError(
                Code.CONFIG_INVALID,
                f"no frequencies are called {self.embedding!r}",
                f"known: {', '.join(FREQUENCIES)}",
            )


@dataclass(frozen=True, slots=True)
class SongOptions(AdmOptions):
    """What DDPM++ and NCSN++ are built with; the defaults are those for CIFAR-10, no attention."""

    width: int = 128
    mults: tuple[int, ...] = (2, 2, 2)
    blocks: int = 4
    attention: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class NcsnOptions(SongOptions):
    """What NCSN++ is built with."""

    embedding: str = "fourier"


@dataclass(frozen=True, slots=True)
class Design:
    """Wherein the published networks differ beside their options.

    Args:
        scales, gain: as in ``BlockStyle``.
        taps: of the filter of each change of size.
        waves: sinusoids of the noise level for each channel of the first level.
        has_aside: the noisy latent itself is made smaller beside the encoder and added to it.
    """

    scales: bool
    gain: float
    taps: tuple[int, ...]
    waves: int
    has_aside: bool


class Adm(nn.Module):
    """Noisy latent, noise level, label map, view -> the network's answer.

    Args:
        channels: of the latent.
        num_structures: of the label map.
        num_views: views; the place behind them stands for a view that is not told.
        options: of the class's ``takes``.
    """

    takes: ClassVar[type[AdmOptions]] = AdmOptions
    design: ClassVar[Design] = Design(True, 1.0, MEAN, 1, False)

    def __init__(
        self, channels: int, num_structures: int, num_views: int, **options: Option
    ) -> None:
        """Build the layers; weights are drawn from torch's generator.

        Raises:
            EchoFedError: CONFIG_INVALID for options that cannot be.
        """
        super().__init__()
        own, design = read_options(self.takes, options), self.design
        widths, told, self.blocks = own.widths, 4 * own.width, own.blocks
        style = BlockStyle(told, HEAD, design.scales, design.gain, own.dropout)
        modulated = partial(_spade, num_structures=num_structures, hidden=own.hidden)
        block = partial(ResidualBlock, style=style, norm=modulated)
        frequencies_F = FREQUENCIES[own.embedding](own.width * design.waves // 2)
        self.sizes = {"C": channels, "L": num_structures, "stride": 2 ** (len(widths) - 1)}
        self.told = Conditioning(frequencies_F, told, num_views)
        self.stem = nn.Conv2d(channels, own.width, 3, padding=1)
        self.down, self.halve, across = _encoder(own, style=style, taps=design.taps)
        self.shrink = Resample(design.taps, grows=False)
        entries = widths[:-1] if design.has_aside else ()
        self.aside = nn.ModuleList(
            nn.Conv2d(above, here, 3, padding=1) for above, here in pairwise((channels, *entries))
        )
        self.middle = block(widths[-1], widths[-1], attends=True)
        self.after = block(widths[-1], widths[-1])
        self.up, self.enlarge, now = nn.ModuleList(), nn.ModuleList(), widths[-1]
        for level in reversed(range(len(widths))):
            if level < len(widths) - 1:
                self.enlarge.append(block(now, now, resample=Resample(design.taps, grows=True)))
            for _ in range(own.blocks + 1):
                attends = level in own.attention
                self.up.append(block(now + across.pop(), widths[level], attends=attends))
                now = widths[level]
        self.last_norm = _plain(now)
        answers = channels * (2 if own.learns_variance else 1)
        self.last = zeroed(nn.Conv2d(now, answers, 3, padding=1))

    def forward(self, x_NCHW: Tensor, noise_N: Tensor, maps_NLHW: Tensor, view_N: Tensor) -> Tensor:
        """The answer (N, C, H, W), or (N, 2C, H, W) with the variance; zero before training.

        Raises:
            EchoFedError: SHAPE_MISMATCH for shapes that the network was not built for.
        """
        expect_asked(x_NCHW, noise_N, maps_NLHW, view_N, sizes=self.sizes)
        told_ND = self.told(noise_N, view_N)
        # channels last is the order in which processors convolve fastest, and it is handed on
        maps_NLHW = maps_NLHW.to(x_NCHW.dtype, memory_format=torch.channels_last)
        x_NCHW = x_NCHW.contiguous(memory_format=torch.channels_last)
        across = self._encoded(x_NCHW, told_ND, maps_NLHW)
        h_NCHW = self.middle(across[-1], told_ND, maps_NLHW)
        h_NCHW = self.after(h_NCHW, told_ND, maps_NLHW)
        for place, block in enumerate(self.up):
            if place and place % (self.blocks + 1) == 0:
                enlarge = self.enlarge[place // (self.blocks + 1) - 1]
                h_NCHW = enlarge(h_NCHW, told_ND, maps_NLHW)
            h_NCHW = block(torch.cat([h_NCHW, across.pop()], dim=1), told_ND, maps_NLHW)
        answer_NCHW: Tensor = self.last(silu(self.last_norm(h_NCHW)))
        return answer_NCHW

    def _encoded(self, x_NCHW: Tensor, told_ND: Tensor, maps_NLHW: Tensor) -> list[Tensor]:
        across, aside_NCHW = [self.stem(x_NCHW)], x_NCHW
        for place, block in enumerate(self.down):
            if place and place % self.blocks == 0:
                level = place // self.blocks
                h_NCHW = self.halve[level - 1](across[-1], told_ND, maps_NLHW)
                if self.aside:
                    aside_NCHW = self.aside[level - 1](self.shrink(aside_NCHW))
                    h_NCHW = aside_NCHW = (h_NCHW + aside_NCHW) * self.design.gain
                across.append(h_NCHW)
            across.append(block(across[-1], told_ND, maps_NLHW))
        return across


class DdpmPlusPlus(Adm):
    """The network of the variance-preserving system."""

    takes = SongOptions
    design = Design(False, sqrt(0.5), MEAN, 1, False)


class NcsnPlusPlus(Adm):
    """The network of the variance-exploding system."""

    takes = NcsnOptions
    design = Design(False, sqrt(0.5), SMOOTH, 2, True)


def _groups(channels: int) -> int:
    most = min(MOST_GROUPS, channels // GROUP)
    return max(groups for groups in range(1, most + 1) if channels % groups == 0)


def _plain(channels: int) -> PlainNorm:
    return PlainNorm(channels, groups=_groups(channels))


def _spade(channels: int, *, num_structures: int, hidden: int) -> Spade:
    return Spade(channels, num_structures, hidden=hidden, groups=_groups(channels))


def _encoder(
    own: AdmOptions, *, style: BlockStyle, taps: tuple[int, ...]
) -> tuple[nn.ModuleList, nn.ModuleList, list[int]]:
    """Blocks of all levels, what leads from level to level, and the channels of all that passes."""
    norm: Norm = _plain
    block = partial(ResidualBlock, style=style, norm=norm)
    down, halve, across = nn.ModuleList(), nn.ModuleList(), [own.width]
    for level, width in enumerate(own.widths):
        if level:
            halve.append(block(across[-1], across[-1], resample=Resample(taps, grows=False)))
            across.append(across[-1])
        for _ in range(own.blocks):
            down.append(block(across[-1], width, attends=level in own.attention))
            across.append(width)
    return down, halve, across
