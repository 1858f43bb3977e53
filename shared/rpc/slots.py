"""How many calls are under way at once: at most so many in all, and of one caller."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import Code, EchoFedError


class Slots:
    """Places for calls; who finds none is told to come back rather than left to wait."""

    def __init__(self, num_places: int, *, num_per_caller: int) -> None:
        """Keep the bounds; a caller can take all places only if both are equal."""
        self._num_places = num_places
        self._num_per_caller = num_per_caller
        self._taken: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def place(self, caller: str) -> Iterator[None]:
        """Hold a place.

        Raises:
            EchoFedError: SERVICE_BUSY.
        """
        with self._lock:
            full = self._taken.total() >= self._num_places
            if full or self._taken[caller] >= self._num_per_caller:
                whose = (
                    "as many calls as it takes" if full else "as many calls as one caller may make"
                )
                raise EchoFedError(
                    Code.SERVICE_BUSY, f"the service has {whose}", "try again in a while"
                )
            self._taken[caller] += 1
        try:
            yield
        finally:
            with self._lock:
                self._taken[caller] -= 1
                if not self._taken[caller]:
                    del self._taken[caller]
