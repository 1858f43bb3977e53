"""What a model owes to the one that its training started from."""

from dataclasses import replace
from typing import TypeVar

from shared.echo.origin import mixed_origin
from shared.echo.segmenter import SegmenterCard
from shared.echo.synthesizer import SynthesizerCard

Card = TypeVar("Card", SegmenterCard, SynthesizerCard)


def with_parent(card: Card, parent: Card) -> Card:
    """The card with what its parent had seen: without its consent, nothing may leave.

    Datasets of another site are that site's to consent to; its model came with them.
    """
    seen: dict[str, str] = dict(zip(parent.datasets, parent.dataset_hashes, strict=True))
    inherited: dict[str, str] = {
        name: content
        for name, content in seen.items()
        if parent.site == card.site and name not in card.datasets
    }
    return replace(
        card,
        parent=parent.id,
        datasets=(*card.datasets, *inherited),
        dataset_hashes=(*card.dataset_hashes, *inherited.values()),
        origin=mixed_origin((card.origin, parent.origin)),
    )
