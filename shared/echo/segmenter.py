"""The card of a segmenter: what its weights are, what they say, and where they come from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shared.echo.expert import CARD_FILE
from shared.echo.origin import Origin
from shared.echo.schema import from_document
from shared.echo.stored import load_stored_weights, save_stored
from shared.files import read_json

SEGMENTER_CARD_VERSION = 1


@dataclass(frozen=True, slots=True)
class SegmenterCard:
    """A trained network of the table of segmenters.

    Args:
        id: unique name, ``<site>-<network>-<first of weights hash>``.
        origin: of all datasets, by ``mixed_origin``.
        answers: ``masks`` (a structure for every pixel) or ``contours`` (landmarks and distances).
        network: its line in ``SEGMENTERS``.
        options: what the network was built with, beside its outputs.
        image_size: the longer side of its input in pixels; pixels are square in mm.
        structures: of the masks, background first; of contours the one that they enclose.
        num_landmarks: of a contour, 0 for masks.
        views: views of the ontology it has seen; it refuses others.
        parent: id of the segmenter from whose weights training started, empty for scratch.
        metrics: validation figures by name.
    """

    id: str
    site: str
    datasets: tuple[str, ...]
    dataset_hashes: tuple[str, ...]
    origin: Origin
    answers: Literal["masks", "contours"]
    network: str
    options: dict[str, int]
    image_size: int
    structures: tuple[str, ...]
    num_landmarks: int
    views: tuple[str, ...]
    weights_sha256: str
    parent: str
    seed: int
    settings_hash: str
    settings: dict[str, bool | int | float | str | None]
    metrics: dict[str, float]
    created: str
    kind: Literal["segmenter"] = "segmenter"
    version: int = SEGMENTER_CARD_VERSION


def save_segmenter(folder: Path, card: SegmenterCard, weights: bytes) -> None:
    """Write weights, then card, atomically: a folder with a card is whole."""
    save_stored(folder, card, weights)


def read_segmenter_card(document: dict[str, object]) -> SegmenterCard:
    """Validate a card that arrived as JSON."""
    return from_document(SegmenterCard, document, version=SEGMENTER_CARD_VERSION)


def load_segmenter_files(folder: Path) -> tuple[SegmenterCard, bytes]:
    """Read a card and the weights that it names.

    Raises:
        EchoFedError: CARD_NEWER, or CHECKPOINT_CORRUPT where the weights are not those of the card.
    """
    card = read_segmenter_card(read_json(folder / CARD_FILE))
    weights = load_stored_weights(folder, card.weights_sha256, model=f"segmenter {card.id}")
    return card, weights
