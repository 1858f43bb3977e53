"""How an image's sampler travels to the process that draws: as numbers beside its label map."""

import json
from collections.abc import Iterator
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from shared.echo.synthesizer import Sampler
from shared.errors import Code, EchoFedError
from shared.shapes import expect

_NUM_BYTES = 256  # a sampler as JSON has about 130


def sampler_rows(sampler: Sampler, num: int) -> NDArray[np.uint8]:
    """The same sampler for so many images, (N, 256): JSON, filled up with blanks.

    Raises:
        EchoFedError: CONFIG_INVALID for names of a solver or a schedule that do not fit.
    """
    text = json.dumps(asdict(sampler)).encode()
    if len(text) > _NUM_BYTES:
        raise EchoFedError(
            Code.CONFIG_INVALID, "the sampler's names are too long", "name a solver of the table"
        )
    row = np.frombuffer(text.ljust(_NUM_BYTES), np.uint8)
    return np.tile(row, (num, 1))


def by_sampler(rows_NB: NDArray[np.uint8]) -> Iterator[tuple[Sampler, NDArray[np.intp]]]:
    """Each sampler of a batch and the places of its rows; orders of one batch may differ in it."""
    expect(rows_NB, "N B", B=_NUM_BYTES)
    distinct, which_N = np.unique(rows_NB, axis=0, return_inverse=True)
    for number, row in enumerate(distinct):
        yield Sampler(**json.loads(row.tobytes())), np.flatnonzero(which_N.ravel() == number)
