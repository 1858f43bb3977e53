"""All randomness of a run comes from one seed; each purpose gets its own stream by name."""

import hashlib

import numpy as np


def derive_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed that depends on the seed and on every name."""
    text = "\x1f".join([str(seed), *(str(name) for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def numpy_generator(seed: int, *names: str | int) -> np.random.Generator:
    """A NumPy generator of its own for the named purpose."""
    return np.random.default_rng(derive_seed(seed, *names))
