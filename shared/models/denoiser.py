"""What every denoiser checks: its options when it is built, the shapes when it is asked."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TypeVar

from torch import Tensor

from shared.echo.synthesizer import Option
from shared.errors import Code, EchoFedError
from shared.shapes import expect

WIDTH_STEP = 8
"""Widths are multiples of it, so that groups of channels can be normalised."""


@dataclass(frozen=True, slots=True)
class DenoiserOptions:
    """What every denoiser is built with.

    Args:
        width: channels of the first level.
        mults: how many times as wide each level is; each halves the size.
        blocks: residual blocks of each level.
        attention: levels where cells look at each other, counted from 0, the finest.
        hidden: channels between the map and its modulation.
        dropout: chance of a feature to be left out within the blocks.
    """

    width: int = 32
    mults: tuple[int, ...] = (1, 2, 4)
    blocks: int = 1
    attention: tuple[int, ...] = ()
    hidden: int = 32
    dropout: float = 0.0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            EchoFedError: CONFIG_INVALID naming the option and the way out.
        """
        if self.width < 1 or self.width % WIDTH_STEP:
            raise _impossible("width", self.width, f"take a multiple of {WIDTH_STEP}")
        expect_positive("blocks", self.blocks)
        expect_positive("hidden", self.hidden)
        if not 0.0 <= self.dropout < 1.0:
            raise _impossible("dropout", self.dropout, "take 0 or more, below 1")
        if not self.mults or min(self.mults) < 1:
            raise _impossible(
                "mults", self.mults, "list a whole number of 1 or more for each level"
            )
        if not set(self.attention) <= set(range(len(self.mults))):
            raise _impossible("attention", self.attention, "count levels from 0, the finest")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level."""
        return tuple(self.width * mult for mult in self.mults)


Options = TypeVar("Options", bound=DenoiserOptions)


def read_options(kind: type[Options], options: Mapping[str, Option]) -> Options:
    """The options of a network, as a card or a settings file has them.

    Raises:
        EchoFedError: CONFIG_INVALID for a name that the network does not know, or a value that
            cannot be.
    """
    known = {field.name for field in fields(kind)}
    if not set(options) <= known:
        unknown = ", ".join(sorted(set(options) - known))
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"the denoiser has no option {unknown}",
            f"known: {', '.join(sorted(known))}",
        )
    for field in fields(kind):
        value = options.get(field.name, field.default)
        if not _is_like(field.default, value):
            like = type(field.default).__name__
            raise _impossible(field.name, repr(value), f"give a value of type {like}")
    return kind(**options)  # type: ignore[arg-type]


def expect_positive(name: str, count: int) -> None:
    """Check a number of something.

    Raises:
        EchoFedError: CONFIG_INVALID below 1.
    """
    if count < 1:
        raise _impossible(name, count, "take 1 or more")


def expect_asked(
    x_NCHW: Tensor, noise_N: Tensor, maps_NLHW: Tensor, view_N: Tensor, *, sizes: Mapping[str, int]
) -> None:
    """Check that a denoiser of these sizes (C, L and stride) can be asked this.

    Raises:
        EchoFedError: SHAPE_MISMATCH naming the axis, or the size that the stride does not divide.
    """
    found = expect(x_NCHW, "N C H W", C=sizes["C"])
    expect(noise_N, "N", N=found["N"])
    expect(maps_NLHW, "N L H W", N=found["N"], L=sizes["L"])
    expect(view_N, "N", N=found["N"])
    stride = sizes["stride"]
    if found["H"] % stride or found["W"] % stride:
        raise EchoFedError(
            Code.SHAPE_MISMATCH,
            f"a latent of {found['H']} x {found['W']} cannot be halved down to cells of {stride}",
            f"take multiples of {stride}, or a network with fewer levels",
        )


def _is_like(default: object, value: object) -> bool:
    if isinstance(default, tuple):
        return isinstance(value, tuple) and all(isinstance(item, int) for item in value)
    is_number = isinstance(default, bool | float) and isinstance(value, int)
    return is_number or type(value) is type(default)


def _impossible(name: str, value: object, hint: str) -> EchoFedError:
    return EchoFedError(Code.CONFIG_INVALID, f"a denoiser cannot have {name} {value}", hint)
