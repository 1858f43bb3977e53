"""Models for tests of the worker: rows that say what shall happen to them."""

import os
import signal
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.errors import Code, EchoFedError
from shared.rpc.process import Forward

RAISES, REFUSES, DIES = -1.0, -2.0, -3.0
"""Tags of rows at which the model fails, refuses, or ends its process."""


def build(argument: str) -> Forward:
    """A model that multiplies.

    Args:
        argument: a file with the factor, or the factor itself.

    Returns:
        A function of rows (N, 2 or more), each of a tag, seconds that it takes and more numbers,
        to the rows times the factor and, for each, the number of the batch, how many rows that had,
        and the process.

    Raises:
        EchoFedError: CHECKPOINT_CORRUPT for something else.
    """
    path, num_batches = Path(argument), 0
    try:
        factor = float(path.read_text() if path.is_file() else argument)
    except ValueError as error:
        raise EchoFedError(Code.CHECKPOINT_CORRUPT, "the factor is not a number") from error

    def forward(rows_NK: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        nonlocal num_batches
        num_batches += 1
        tag_N = rows_NK[:, 0]
        time.sleep(float(rows_NK[:, 1].max()))
        if (tag_N == DIES).any():
            os.kill(os.getpid(), signal.SIGKILL)
        if (tag_N == REFUSES).any():
            raise EchoFedError(Code.SECTOR_EMPTY, "a row has no sector", "send another")
        if (tag_N == RAISES).any():
            raise ValueError("a row of patient Weber")
        told_N3 = np.tile([num_batches, len(rows_NK), os.getpid()], (len(rows_NK), 1))
        return rows_NK * factor, told_N3

    return forward
