"""Which model answered."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelName:
    """A model that answers, and the SHA-256 of its weights in hex."""

    id: str
    sha256: str
