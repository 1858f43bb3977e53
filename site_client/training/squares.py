"""Square grey images with their sectors: what autoencoders learn from, and in which order."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.seeding import derive_seed, numpy_generator
from shared.shapes import expect

_WHITE = 255.0


@dataclass(frozen=True, slots=True, eq=False)
class Squares:
    """Frames without labels.

    Args:
        pixels_NSS: grey values.
        sector_NSS: True inside the sector.
    """

    pixels_NSS: NDArray[np.uint8]
    sector_NSS: NDArray[np.bool_]

    def __post_init__(self) -> None:
        """Check that the two belong together."""
        expect(self.sector_NSS, "N H W", **expect(self.pixels_NSS, "N H W"))

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.pixels_NSS)


@dataclass(frozen=True, slots=True, eq=False)
class SquareBatch:
    """Some frames.

    Args:
        images_N1SS: grey values in [0, 1].
        sector_N1SS: 1 inside the sector, else 0.
        generator: of the same device; what the loss draws comes from it.
    """

    images_N1SS: Tensor
    sector_N1SS: Tensor
    generator: torch.Generator


class SquareMaterial:
    """Training frames, kept where the network learns, in the order of every epoch."""

    def __init__(
        self, squares: Squares, *, batch_size: int, num_batches: int, seed: int, device: str
    ) -> None:
        """Keep the frames as bytes.

        Args:
            squares: frames, at least one.
            batch_size: frames in a batch.
            num_batches: of an epoch, however many frames there are.
            seed: of order and flips.
            device: where the network learns.
        """
        self._pixels_NSS = torch.from_numpy(squares.pixels_NSS).to(device)
        self._sector_NSS = torch.from_numpy(squares.sector_NSS).to(device)
        self._size, self._seed, self._device = (num_batches, batch_size), seed, device

    def batches(self, epoch: int, *, flip_probability: float) -> Iterator[SquareBatch]:
        """The batches of an epoch, by the seed and the epoch alone.

        Each frame comes before any comes again.
        """
        draws = numpy_generator(self._seed, "squares", epoch)
        order = np.resize(draws.permutation(len(self._pixels_NSS)), self._size)
        flipped = draws.random(self._size) < flip_probability
        generator = torch.Generator(self._device)
        generator.manual_seed(derive_seed(self._seed, "latent draws", epoch))
        for place_N, flipped_N in zip(order, flipped, strict=True):
            index_N, flipped_N11 = (
                torch.from_numpy(x).to(self._device) for x in (place_N, flipped_N[:, None, None])
            )
            images, sectors = (
                torch.where(flipped_N11, x.flip(2), x)[:, None].float()
                for x in (self._pixels_NSS[index_N], self._sector_NSS[index_N])
            )
            yield SquareBatch(images / _WHITE, sectors, generator)


def plain_squares(
    squares: Squares, batch_size: int, device: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """All frames once as they are: images (N, 1, S, S) in [0, 1] and sectors of 0 and 1."""
    for begin in range(0, len(squares), batch_size):
        part = slice(begin, begin + batch_size)
        pixels_NSS = torch.from_numpy(squares.pixels_NSS[part]).to(device)
        sector_NSS = torch.from_numpy(squares.sector_NSS[part]).to(device)
        yield pixels_NSS[:, None].float() / _WHITE, sector_NSS[:, None].float()
