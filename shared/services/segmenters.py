"""The segmenters of a host by alias."""

from typing import TYPE_CHECKING

from shared.errors import Code, EchoFedError
from shared.rpc.deadline import Call
from shared.rpc.peer import Peer
from shared.services.running import RunningModels

if TYPE_CHECKING:  # a host of other services needs no networks
    from shared.segmentation.answer import Segmenters

SERVING = "serving"
"""Stands for the segmenters of both kinds that go by the names of ``PARTS``."""
PARTS = ("segmentation-masks", "segmentation-contours")


class RunningSegmenters:
    """A ``SegmenterStore`` of models that run."""

    def __init__(self, models: RunningModels) -> None:
        """Keep the models, of every kind."""
        self._models = models

    def find(self, alias: str, *, caller: Peer, call: Call) -> "Segmenters":
        """The segmenters that an alias stands for now; the first to ask waits for their processes.

        Raises:
            EchoFedError: MODEL_UNKNOWN, and as ``RunningModels.held``.
        """
        from shared.segmentation.answer import Segmenters
        from shared.segmentation.segmenter import Segmenter

        names = PARTS if alias == SERVING else (alias,)
        ready = {
            card.answers: Segmenter(card, forward)
            for card, forward in self._models.held("segmenter", names, caller=caller, call=call)
            if card.kind == "segmenter"
        }
        if not ready:
            raise EchoFedError(
                Code.MODEL_UNKNOWN,
                f"no segmenter here is called {alias[:80]!r}",
                "ask the host what it serves",
            )
        return Segmenters(**ready)
