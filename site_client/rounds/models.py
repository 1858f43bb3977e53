"""A segmenter or a synthesizer of this site through the door, for a person to carry away."""

from shared.echo.manifest import DatasetManifest
from shared.echo.model_card import ModelCard
from shared.echo.segmenter import SegmenterCard, load_segmenter_files
from shared.echo.synthesizer import SynthesizerCard, load_synthesizer_files
from shared.errors import Code, EchoFedError
from site_client.rounds.desk import Desk


def release_segmenter(desk: Desk, name: str) -> tuple[SegmenterCard, bytes]:
    """Card and weights, as far as the policy of every dataset that it was trained on allows.

    Raises:
        EchoFedError: MODEL_UNKNOWN, CHECKPOINT_CORRUPT, EGRESS_DENIED for one of another site and
            as the policy says.
    """
    card, weights = load_segmenter_files(desk.store.require_segmenter(name))
    _expect_own(desk, card)
    desk.egress.release_segmenter(card, weights, _manifests(desk, card))
    return card, weights


def release_synthesizer(desk: Desk, name: str) -> tuple[SynthesizerCard, bytes]:
    """As ``release_segmenter``; the weights hold embeddings of the training frames too."""
    card, weights = load_synthesizer_files(desk.store.require_synthesizer(name))
    _expect_own(desk, card)
    desk.egress.release_synthesizer(card, weights, _manifests(desk, card))
    return card, weights


def _expect_own(desk: Desk, card: ModelCard) -> None:
    if card.site != desk.site:
        raise EchoFedError(
            Code.EGRESS_DENIED,
            f"{card.kind} {card.id} is of another site",
            "ask the site that trained it",
        )


def _manifests(desk: Desk, card: ModelCard) -> list[DatasetManifest]:
    """Of the datasets that are still here; the door asks for all of them."""
    here = desk.store.datasets()
    return [desk.store.manifest(name) for name in card.datasets if name in here]
