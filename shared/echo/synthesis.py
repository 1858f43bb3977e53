"""The stamp of a drawn picture: by what, from what and how it came to be."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Synthesis:
    """How one picture was drawn; with the same sampler the same is drawn again.

    Args:
        synthesizer: its id.
        weights_sha256: of the synthesizer.
        seed: of the noise.
        map_sha256: of the label map, as ``map_hash`` tells it.
        similarity: to the nearest frame of the synthesizer's training, 1 for the same.
    """

    synthesizer: str
    weights_sha256: str
    seed: int
    map_sha256: str
    similarity: float
