"""Models that go by an alias: segmenters and synthesizers, told apart by their card's ``kind``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shared.echo.expert import CARD_FILE
from shared.echo.segmenter import (
    SegmenterCard,
    load_segmenter_files,
    read_segmenter_card,
    save_segmenter,
)
from shared.echo.synthesizer import (
    SynthesizerCard,
    load_synthesizer_files,
    read_synthesizer_card,
    save_synthesizer,
)
from shared.errors import Code, EchoFedError
from shared.files import read_json

ModelCard = SegmenterCard | SynthesizerCard
ModelKind = Literal["segmenter", "synthesizer"]


@dataclass(frozen=True, slots=True)
class _Kind:
    read: Callable[[dict[str, object]], ModelCard]
    load: Callable[[Path], tuple[ModelCard, bytes]]


_KINDS: Mapping[object, _Kind] = {
    "segmenter": _Kind(read_segmenter_card, load_segmenter_files),
    "synthesizer": _Kind(read_synthesizer_card, load_synthesizer_files),
}
KINDS: tuple[ModelKind, ...] = ("segmenter", "synthesizer")


def read_model_card(document: dict[str, object]) -> ModelCard:
    """Validate a card of either kind that arrived as JSON.

    Raises:
        EchoFedError: MODEL_UNKNOWN for a card of another kind, CARD_NEWER.
    """
    return _kind_of(document).read(document)


def load_model_files(folder: Path) -> tuple[ModelCard, bytes]:
    """Read a card of either kind and the weights that it names.

    Raises:
        EchoFedError: MODEL_UNKNOWN for a card of another kind, CARD_NEWER, or CHECKPOINT_CORRUPT
            where the weights are not those of the card.
    """
    return _kind_of(read_json(folder / CARD_FILE)).load(folder)


def save_model(folder: Path, card: ModelCard, weights: bytes) -> None:
    """Write weights, then card, atomically: a folder with a card is whole."""
    if card.kind == "segmenter":
        save_segmenter(folder, card, weights)
    else:
        save_synthesizer(folder, card, weights)


def kind_folder(kind: ModelKind) -> str:
    """What the folder of all models of a kind is called, at either house."""
    return f"{kind}s"


def _kind_of(document: dict[str, object]) -> _Kind:
    kind = _KINDS.get(document.get("kind"))
    if kind is None:
        raise EchoFedError(
            Code.MODEL_UNKNOWN,
            f"the card is of no {' or '.join(KINDS)}",
            "fusions and experts come with the rounds: run federate",
        )
    return kind
