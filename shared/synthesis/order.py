"""What is ordered of a synthesizer, and what it gives."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.echo.mask import Mask
from shared.echo.model_name import ModelName
from shared.errors import Code, EchoFedError

Labels = NDArray[np.uint8]
MAX_IMAGES = 10_000
MIN_SIDE, MAX_SIDE = 16, 1024
MAX_MAP_PIXELS = 128 * 1024 * 1024
"""Of all label maps of an order together; they are in memory at once."""


@dataclass(frozen=True, slots=True)
class Variation:
    """Other maps than those that were sent: so many, by a seed of their own."""

    num_images: int
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """What is to be drawn, and how.

    Args:
        view: id of the view.
        alias: what the synthesizer is called at the host.
        labels_NHW: squares of uint8 places in ``structures``; another size than the card's is
            resized by nearest. None for the virtual hospital's anatomy.
        structures: by name, each of them one of the card's.
        variation: one of each map in turn, warped; None where each is drawn once as it is.
        seed: of the noise.
        solver: of the table of solvers; this and the others are the card's where None.
        guidance: weight of the label map's pull.
    """

    view: str
    alias: str = "synthesis"
    labels_NHW: Labels | None = None
    structures: tuple[str, ...] = ()
    variation: Variation | None = None
    seed: int = 0
    solver: str | None = None
    steps: int | None = None
    guidance: float | None = None

    @property
    def num_images(self) -> int:
        """How many it asks for."""
        if self.variation is not None:
            return self.variation.num_images
        return 0 if self.labels_NHW is None else len(self.labels_NHW)


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """An image with its stamp, or that none may be released.

    Args:
        place: in the order, from 0.
        seed: of its noise.
        map: the label map that it was drawn from.
        map_sha256: of the label map, as ``map_hash`` tells it.
        similarity: to the nearest frame of the training, 1 for the same.
        pixels_SS: uint8; None where the release of every draw of it was refused.
    """

    place: int
    seed: int
    map: Mask
    map_sha256: str
    similarity: float
    pixels_SS: Labels | None

    @property
    def is_released(self) -> bool:
        return self.pixels_SS is not None


Part = ModelName | Drawing


def expect_map_shape(shape: tuple[int, ...]) -> None:
    """Refuse label maps that are none or too many; it looks at the shape alone.

    Raises:
        EchoFedError: SHAPE_MISMATCH, REQUEST_TOO_LARGE.
    """
    if len(shape) != 3 or shape[1] != shape[2] or not shape[1] >= MIN_SIDE or not shape[0]:
        raise EchoFedError(
            Code.SHAPE_MISMATCH,
            f"label maps of {'x'.join(map(str, shape[:5]))} are no squares",
            f"send maps x rows x columns, at least one, of {MIN_SIDE} to {MAX_SIDE} pixels a side",
        )
    if shape[1] > MAX_SIDE or shape[0] > MAX_IMAGES or math.prod(shape) > MAX_MAP_PIXELS:
        raise EchoFedError(
            Code.REQUEST_TOO_LARGE,
            f"{shape[0]} label maps of {shape[1]} pixels a side are more than is taken",
            f"at most {MAX_IMAGES} maps of {MAX_SIDE} a side, {MAX_MAP_PIXELS} pixels together",
        )
