"""A synthesizer of this site, drawing in this process."""

import numpy as np
from numpy.typing import NDArray

from shared.echo.synthesizer import Sampler, SynthesizerCard
from shared.synthesis.semantic import Synthesizer, build_synthesizer
from site_client.models import load_trusted_synthesizer
from site_client.store import SiteStore


class LocalDrawer:
    """A ``Drawer``: the network, and the gate that judges what it draws."""

    def __init__(self, synthesizer: Synthesizer) -> None:
        """Keep the synthesizer."""
        self._synthesizer = synthesizer

    @property
    def card(self) -> SynthesizerCard:
        """What it is."""
        return self._synthesizer.card

    def draw(
        self,
        labels_NSS: NDArray[np.uint8],
        view_N: NDArray[np.int64],
        seeds_N: NDArray[np.int64],
        sampler: Sampler,
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.bool_]]:
        """Images, similarities and whether each may be released, as ``Drawer`` says."""
        images_NSS = self._synthesizer.images(
            labels_NSS, view_N=view_N, seeds_N=seeds_N, sampler=sampler
        )
        similarity_N = self._synthesizer.gate.similarities(images_NSS)
        return images_NSS, similarity_N, self._synthesizer.gate.released(similarity_N)


def open_drawer(store: SiteStore, synthesizer: str, *, site: str) -> LocalDrawer:
    """A synthesizer of the site by id, ready to draw in this process.

    Raises:
        EchoFedError: as ``load_trusted_synthesizer`` and ``build_synthesizer``.
    """
    return LocalDrawer(build_synthesizer(*load_trusted_synthesizer(store, synthesizer, site=site)))
