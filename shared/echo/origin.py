"""Where pixels come from: patients, a synthesizer, or the virtual hospital."""

from collections.abc import Iterable
from typing import Literal

Origin = Literal["phantom", "synthetic", "real"]
ORIGINS: tuple[Origin, ...] = ("phantom", "synthetic", "real")
"""The farthest from patients first."""
ImagedOrigin = Literal["phantom", "real"]
"""What a scanner saw, if only a virtual one: a model may be judged on nothing else."""


def mixed_origin(origins: Iterable[Origin]) -> Origin:
    """What something made of several is called: by the part that is farthest from patients."""
    return min(origins, key=ORIGINS.index)
