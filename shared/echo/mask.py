"""The mask: which structure every pixel of a frame shows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.errors import Code, EchoFedError
from shared.shapes import expect

STRUCTURES = ("background", "lv", "myocardium", "la", "rv", "ra", "aorta")
"""What the house segments; a structure's place is its value in the phantom's label maps."""
OUTSIDE = "outside"
"""All that is not of the sector, in label maps from which images are drawn."""


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """One structure for every pixel.

    Args:
        labels_HW: uint8; each value is a place in ``names``.
        names: structure of each value; the first is all that is none of the others.
        mm_per_pixel: spacing of (rows, columns), None where no calibration is known.
        key: keyed pseudonym of the frame; carries no identity.
    """

    labels_HW: NDArray[np.uint8]
    names: tuple[str, ...]
    mm_per_pixel: tuple[float, float] | None
    key: str

    def __post_init__(self) -> None:
        """Refuse another shape, names that are not distinct, and values that have no name."""
        expect(self.labels_HW, "H W")
        if len(set(self.names)) != len(self.names) or not self.names:
            raise EchoFedError(
                Code.LABEL_MAP_INVALID,
                f"a mask needs distinct structures; its names are {self.names}",
                "name each value once",
            )
        highest = int(self.labels_HW.max(initial=0))
        if highest >= len(self.names):
            raise EchoFedError(
                Code.LABEL_UNMAPPED,
                f"value {highest} of a mask has no name; it names {len(self.names)} structures",
                "give the names of the collection that the mask comes from",
            )

    def region(self, name: str) -> NDArray[np.bool_]:
        """True where the mask shows a structure, (H, W).

        Raises:
            EchoFedError: NAME_UNKNOWN for a structure that the mask cannot show.
        """
        if name not in self.names:
            raise EchoFedError(
                Code.NAME_UNKNOWN,
                f"the mask knows no structure {name!r}",
                f"known: {', '.join(self.names)}",
            )
        shown: NDArray[np.bool_] = self.labels_HW == self.names.index(name)
        return shown

    def renamed(self, names: tuple[str, ...]) -> "Mask":
        """The same mask by another order of structures; one that they lack joins the first."""
        values = [names.index(name) if name in names else 0 for name in self.names]
        return Mask(np.array(values, np.uint8)[self.labels_HW], names, self.mm_per_pixel, self.key)
