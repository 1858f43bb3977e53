"""Memory of messages: kept for the next one instead of fetched from the system for each."""

from functools import cache

import numpy as np

from shared.rpc.codec import MIB

_LARGEST_TAKEN = 30 * MIB  # glibc follows blocks up to 32 MiB


@cache
def keep_freed_memory() -> None:
    """Let the C library keep up to 60 MiB of what is freed, from the first call on.

    glibc returns free memory above twice the largest block that was ever freed, so at first after
    every message of 1 MiB; fetching it again took as long as the checksum of what is sent. One
    large block lifts the bound; nothing is written to it, so it takes no memory. Other C libraries
    are as they were.
    """
    np.empty(_LARGEST_TAKEN, np.uint8)
