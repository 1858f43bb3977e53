"""Named-shape checks at public doors: ``expect(x, "N E D", E=3)``."""

from collections.abc import Sequence
from typing import Protocol

from shared.errors import Code, EchoFedError


class Shaped(Protocol):
    """Anything with a shape: an array or a tensor."""

    @property
    def shape(self) -> Sequence[int]:
        """Sizes by axis."""
        ...


def expect(array: Shaped, axes: str, **sizes: int) -> dict[str, int]:
    """Check the number of axes and the sizes that are named.

    Args:
        array: array or tensor.
        axes: axis letters separated by blanks, such as ``"N E D"``.
        sizes: required size by letter.

    Returns:
        The size of every axis by letter.

    Raises:
        EchoFedError: SHAPE_MISMATCH naming the axis, the size found and the size required.
    """
    names = axes.split()
    shape = tuple(int(size) for size in array.shape)
    if len(names) != len(shape):
        raise EchoFedError(
            Code.SHAPE_MISMATCH,
            f"expected axes ({axes}), found shape {shape}",
            "check the axis order",
        )
    found = dict(zip(names, shape, strict=True))
    for name, size in sizes.items():
        if found[name] != size:
            raise EchoFedError(
                Code.SHAPE_MISMATCH,
                f"axis {name} of ({axes}) is {found[name]}, required {size}",
                "check which expert or dataset the array came from",
            )
    return found
