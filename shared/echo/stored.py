"""A model's folder: its card in JSON, and the weights whose hash the card has."""

from pathlib import Path

from shared.echo.expert import CARD_FILE, WEIGHTS_FILE
from shared.echo.schema import to_document
from shared.errors import Code, EchoFedError
from shared.files import sha256_hex, write_bytes, write_json


def save_stored(folder: Path, card: object, weights: bytes) -> None:
    """Write weights, then card, atomically: a folder with a card is whole."""
    write_bytes(folder / WEIGHTS_FILE, weights)
    write_json(folder / CARD_FILE, to_document(card))


def load_stored_weights(folder: Path, sha256: str, *, model: str) -> bytes:
    """The weights of a folder.

    Args:
        folder: of the model.
        sha256: of its card.
        model: kind and id, for the error.

    Raises:
        EchoFedError: CHECKPOINT_CORRUPT where the weights are not those of the card.
    """
    path = folder / WEIGHTS_FILE
    weights = path.read_bytes() if path.is_file() else b""
    if sha256_hex(weights) != sha256:
        raise EchoFedError(
            Code.CHECKPOINT_CORRUPT,
            f"the weights of {model} are not those of its card",
            "fetch it again, or train it again",
        )
    return weights
