"""The synthesizers of a host by alias."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from shared.diffusion import SOLVERS
from shared.echo.synthesizer import Sampler, SynthesizerCard
from shared.errors import Code, EchoFedError
from shared.rpc.deadline import Call
from shared.rpc.peer import Peer
from shared.services.running import Forward, RunningModels

if TYPE_CHECKING:  # a host of other services needs no label maps
    from shared.synthesis.answer import Drawer

SYNTHESIS = "synthesis"
"""What the usual synthesizer of a host is called."""


class RunningSynthesizers:
    """A ``SynthesizerStore`` of models that run."""

    def __init__(self, models: RunningModels) -> None:
        """Keep the models, of every kind."""
        self._models = models

    def find(self, alias: str, *, caller: Peer, call: Call) -> "Drawer":
        """The synthesizer that an alias stands for now; the first to ask waits for its process.

        Raises:
            EchoFedError: MODEL_UNKNOWN, and as ``RunningModels.held``.
        """
        for card, forward in self._models.held("synthesizer", [alias], caller=caller, call=call):
            if card.kind == "synthesizer":
                return _RunningDrawer(card, forward)
        raise EchoFedError(
            Code.MODEL_UNKNOWN,
            f"no synthesizer here is called {alias[:80]!r}",
            "ask the host what it serves",
        )


class _RunningDrawer:
    """A ``Drawer`` whose network and gate are in a process of their own."""

    def __init__(self, card: SynthesizerCard, forward: Forward) -> None:
        self._card, self._forward = card, forward

    @property
    def card(self) -> SynthesizerCard:
        return self._card

    def draw(
        self,
        labels_NSS: NDArray[np.uint8],
        view_N: NDArray[np.int64],
        seeds_N: NDArray[np.int64],
        sampler: Sampler,
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.bool_]]:
        own = replace(
            self._card.sampler,
            solver=sampler.solver,
            steps=sampler.steps,
            guidance=sampler.guidance,
        )
        if sampler != own:
            raise EchoFedError(
                Code.CONFIG_INVALID,
                f"a host draws with the noise levels of {self._card.id} alone",
                "ask for another solver, other steps or guidance",
            )
        _ = SOLVERS[sampler.solver]  # which refuses an unknown one
        num, solver = len(labels_NSS), SOLVERS.names().index(sampler.solver)
        images_NSS, similarity_N, is_released_N = self._forward(
            labels_NSS,
            view_N,
            seeds_N,
            np.full(num, sampler.steps, np.int64),
            np.full(num, sampler.guidance, np.float64),
            np.full(num, solver, np.int64),
        )
        return images_NSS, similarity_N, is_released_N
