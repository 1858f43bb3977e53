"""Memory of messages: kept for the next one instead of fetched from the system for each."""

from shared.rpc.codec import MIB

_LARGEST_TAKEN = 30 * MIB  # glibc follows blocks up to 32 MiB


def keep_freed_memory() -> None:
    """Let the C library keep up to 60 MiB of what is freed.

    glibc returns free memory above twice the largest block that was ever freed, so at first after
    every message of 1 MiB; fetching it again took as long as the checksum of what is sent. One
    large block, never written to, lifts the bound. Other C libraries are as they were.
    """
    bytes(_LARGEST_TAKEN)
