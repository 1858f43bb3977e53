"""Where a host finds the models of its services."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from shared.rpc.peer import Peer


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model as it lies on disk.

    Args:
        card: file of its card in JSON.
        weights: file of its weights in safetensors, whose hash the card has.
        signature: of the centre on the card; empty where nobody signed it, and then nobody who
            fetches it takes it.
    """

    card: Path
    weights: Path
    signature: bytes = b""


class ModelStore(Protocol):
    """The models of a host by alias."""

    def find(self, alias: str, *, caller: Peer) -> StoredModel:
        """Return what the alias stands for now, and note who fetches it.

        Raises:
            EchoFedError: MODEL_UNKNOWN.
        """
        ...
