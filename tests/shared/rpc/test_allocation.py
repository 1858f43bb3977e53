"""To keep what is freed costs no memory itself."""

import psutil

from shared.rpc.allocation import keep_freed_memory
from shared.rpc.codec import MIB


def test_the_bound_is_lifted_without_taking_memory() -> None:
    process = psutil.Process()
    before = process.memory_info().rss
    for _ in range(3):
        keep_freed_memory.cache_clear()
        keep_freed_memory()
    assert process.memory_info().rss < before + 10 * MIB
