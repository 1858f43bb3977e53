"""Memory that work must not keep."""

import gc
from collections.abc import Iterator

import psutil

GROWTH = 0.05
"""Share by which the process may grow."""


def expect_steady_memory(work: Iterator[object], *, first: int) -> None:
    """Do all the work and check that the process hardly grows once it is warm.

    Args:
        work: a step at each turn; server and caller may both live in this process.
        first: steps after which the process is warm.
    """
    process, warm = psutil.Process(), 0
    for place, _ in enumerate(work, start=1):
        if place == first:
            gc.collect()
            warm = process.memory_info().rss
    gc.collect()
    assert warm, "the work ended before it was warm"
    grown = process.memory_info().rss / warm - 1
    assert grown < GROWTH, f"grew by {grown:.1%} from {warm >> 20} MiB"
