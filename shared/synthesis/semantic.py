"""A synthesizer: label maps in, ultrasound images out, each with its nearest training frame.

Arrays in, arrays out, and no row depends on another, so that it may run in a process of its own.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shared.diffusion import SCHEDULES, SOLVERS
from shared.diffusion.bands import wrapping
from shared.echo.synthesizer import Sampler, SynthesizerCard, load_synthesizer_files
from shared.errors import Code, EchoFedError
from shared.models import AUTOENCODERS, DENOISERS, EMBEDDINGS, Autoencoder
from shared.models.backbone import load_weights, unpack_tensors
from shared.shapes import expect
from shared.synthesis.draw import Parts, decode_latents, draw_latents
from shared.synthesis.maps import one_hot_maps
from shared.synthesis.release import ReleaseGate

DENOISER, AUTOENCODER, EMBEDDING = "denoiser.", "autoencoder.", "embedding."
GALLERY = "gallery.features_GD"
"""Names, or their beginnings, in the weights of a synthesizer."""
MOST_STEPS = 1000  # of DDPM; nothing is gained by more
MOST_GUIDANCE = 20.0  # beyond, images are black and white long since
_PIECE = 8  # images computed at once; bounds the memory
_WHITE = 255.0

Forward = Callable[
    [NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]],
    tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.bool_]],
]
"""Label maps (N, S, S), views, seeds, steps, guidances, solvers (each N; a solver is its place in
``SOLVERS.names()``) -> images (N, S, S), similarities (N,), whether each may be released (N,)."""


class Synthesizer:
    """Draws images of label maps by the denoiser of a card."""

    def __init__(self, card: SynthesizerCard, parts: Parts, gate: ReleaseGate) -> None:
        """Keep the card, its networks, and the gate that judges what they draw.

        Raises:
            EchoFedError: CONFIG_INVALID for a card whose latent does not fit its autoencoder.
        """
        channels, factor = parts.autoencoder.latent_channels, parts.autoencoder.factor
        if {len(card.latent_shift), len(card.latent_scale)} != {channels} or (
            card.image_size % factor
        ):
            raise EchoFedError(
                Code.CONFIG_INVALID,
                f"synthesizer {card.id} has latents of {channels} channels at 1/{factor} of the "
                f"size, which do not fit images of {card.image_size} pixels or its normalisation",
                "train it again",
            )
        self.card = card
        self.gate = gate
        self._parts = parts

    def images(
        self,
        labels_NSS: NDArray[np.uint8],
        *,
        view_N: NDArray[np.integer],
        seeds_N: NDArray[np.integer],
        sampler: Sampler,
    ) -> NDArray[np.uint8]:
        """One image of each label map, 0 outside its sector; the same seed gives the same image.

        Args:
            labels_NSS: places in the card's structures, squares of the card's size.
            view_N: places in the card's views.
            seeds_N: none below 0.
            sampler: how; the card's own is what it was judged with.

        Returns:
            Grey values (N, S, S).

        Raises:
            EchoFedError: SHAPE_MISMATCH, LABEL_UNMAPPED, VIEW_UNKNOWN, CONFIG_INVALID for steps,
                guidance, noise levels or seeds that cannot be, NAME_UNKNOWN for a solver or a
                schedule, FEATURES_NOT_FINITE for images that are not.
        """
        self._expect_asked(labels_NSS, view_N, seeds_N)
        expect_sampler(sampler)
        num = len(labels_NSS)
        images_NSS = np.zeros(labels_NSS.shape, np.uint8)
        for begin, end in pairwise([*range(0, num, _PIECE), num]):
            rows = slice(begin, end)
            images_NSS[rows] = self._piece(labels_NSS[rows], view_N[rows], seeds_N[rows], sampler)
        return images_NSS

    def _piece(
        self,
        labels_NSS: NDArray[np.uint8],
        view_N: NDArray[np.integer],
        seeds_N: NDArray[np.integer],
        sampler: Sampler,
    ) -> NDArray[np.uint8]:
        maps_NLSS = one_hot_maps(labels_NSS, len(self.card.structures))
        with torch.inference_mode():
            latent_NCHW = draw_latents(
                self.card,
                self._parts,
                maps_NLSS,
                torch.from_numpy(view_N.astype(np.int64)),
                sampler=sampler,
                seeds_N=seeds_N.tolist(),
            )
            _expect_finite(latent_NCHW)  # a decoder may clamp what is infinite
            image_N1SS = decode_latents(self.card, self._parts, latent_NCHW, maps_NLSS)
        return _grey(image_N1SS[:, 0])

    def _expect_asked(
        self,
        labels_NSS: NDArray[np.uint8],
        view_N: NDArray[np.integer],
        seeds_N: NDArray[np.integer],
    ) -> None:
        card = self.card
        size = card.image_size
        num = expect(labels_NSS, "N H W", H=size, W=size)["N"]
        expect(view_N, "N", N=num)
        expect(seeds_N, "N", N=num)
        highest = int(labels_NSS.max(initial=0))
        if labels_NSS.dtype != np.uint8 or highest >= len(card.structures):
            raise EchoFedError(
                Code.LABEL_UNMAPPED,
                f"value {highest} ({labels_NSS.dtype}) of a label map is no structure of "
                f"synthesizer {card.id}",
                f"send uint8 places in {', '.join(card.structures)}",
            )
        if num and not 0 <= view_N.min() <= view_N.max() < len(card.views):
            raise EchoFedError(
                Code.VIEW_UNKNOWN,
                f"synthesizer {card.id} has no view {view_N.min()} to {view_N.max()}",
                f"send places in {', '.join(card.views)}",
            )
        if num and seeds_N.min() < 0:
            raise EchoFedError(
                Code.CONFIG_INVALID, f"seed {seeds_N.min()} is below 0", "take 0 or more"
            )


def expect_sampler(sampler: Sampler) -> None:
    """Refuse what no image can be drawn by.

    Raises:
        EchoFedError: CONFIG_INVALID, NAME_UNKNOWN.
    """
    _, schedule = SOLVERS[sampler.solver], SCHEDULES[sampler.schedule]
    sigmas_fit = 0.0 < sampler.sigma_min < sampler.sigma_max < math.inf
    if not 1 <= sampler.steps <= MOST_STEPS:
        problem = f"{sampler.steps} steps: take 1 to {MOST_STEPS}"
    elif not 0.0 <= sampler.guidance <= MOST_GUIDANCE:
        problem = f"a guidance of {sampler.guidance}: take 0 to {MOST_GUIDANCE:g}"
    elif not sigmas_fit:
        problem = f"noise from {sampler.sigma_max} to {sampler.sigma_min}: take falling levels"
    else:
        schedule(sampler.steps, sampler.sigma_min, sampler.sigma_max)  # refuses what it lacks
        return
    found, hint = problem.split(": ")
    raise EchoFedError(Code.CONFIG_INVALID, f"an image cannot be drawn with {found}", hint)


def build_synthesizer(card: SynthesizerCard, weights: bytes) -> Synthesizer:
    """The card's networks with their weights, in this process.

    Raises:
        EchoFedError: CHECKPOINT_CORRUPT for weights that do not fit, FEATURES_NOT_FINITE for
            weights that are no numbers, NAME_UNKNOWN for what is not in a table, CONFIG_INVALID,
            FEATURES_INVALID for a gallery that cannot judge.
    """
    tensors = unpack_tensors(weights)
    broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if broken:
        raise EchoFedError(
            Code.FEATURES_NOT_FINITE,
            f"{len(broken)} weights of synthesizer {card.id} are not finite, such as {broken[0]}",
            "fetch it again, or train it again",
        )
    if GALLERY not in tensors:
        raise EchoFedError(
            Code.CHECKPOINT_CORRUPT,
            f"the weights of synthesizer {card.id} hold no training frames to compare with",
            "train it again; without them nothing that it draws could be released",
        )
    networks = {
        DENOISER: DENOISERS[card.network](
            len(card.latent_shift), len(card.structures), len(card.views), **card.options
        ),
        AUTOENCODER: AUTOENCODERS[card.autoencoder](**card.autoencoder_options),
        EMBEDDING: EMBEDDINGS[card.embedding](**card.embedding_options),
    }
    for prefix, network in networks.items():
        assert isinstance(network, nn.Module)
        own = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        load_weights(network, own)
        network.eval().requires_grad_(requires_grad=False)
    embedding = cast(nn.Module, networks[EMBEDDING])
    gate = ReleaseGate(embedding, tensors[GALLERY], card.release_threshold)
    autoencoder = cast(Autoencoder, networks[AUTOENCODER])
    precondition = wrapping(card.precondition, card.sigma_data)
    parts = Parts(cast(nn.Module, networks[DENOISER]), autoencoder, precondition)
    return Synthesizer(card, parts, gate)


def build_stored(folder: str) -> Forward:
    """The forward of a synthesizer's folder; what a worker builds.

    Raises:
        EchoFedError: as ``load_synthesizer_files`` and ``build_synthesizer``.
    """
    return forward_of(build_synthesizer(*load_synthesizer_files(Path(folder))))


def forward_of(synthesizer: Synthesizer) -> Forward:
    """Images and the gate's word on them, with a sampler of its own for each row.

    Rows with the same sampler are computed together; all else of it is the card's.
    """

    def forward(
        labels_NSS: NDArray[Any],
        view_N: NDArray[Any],
        seeds_N: NDArray[Any],
        steps_N: NDArray[Any],
        guidance_N: NDArray[Any],
        solver_N: NDArray[Any],
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.bool_]]:
        images_NSS = np.zeros(labels_NSS.shape, np.uint8)
        asked = list(zip(steps_N.tolist(), guidance_N.tolist(), solver_N.tolist(), strict=True))
        for steps, guidance, solver in sorted(set(asked)):
            rows = np.array([one == (steps, guidance, solver) for one in asked])
            sampler = replace(
                synthesizer.card.sampler,
                solver=_solver_name(solver),
                steps=steps,
                guidance=guidance,
            )
            images_NSS[rows] = synthesizer.images(
                labels_NSS[rows], view_N=view_N[rows], seeds_N=seeds_N[rows], sampler=sampler
            )
        similarity_N = synthesizer.gate.similarities(images_NSS)
        return images_NSS, similarity_N, synthesizer.gate.released(similarity_N)

    return forward


def _solver_name(place: int) -> str:
    names = SOLVERS.names()
    if not 0 <= place < len(names):
        raise EchoFedError(
            Code.NAME_UNKNOWN, f"no solver has place {place}", f"known: {', '.join(names)}"
        )
    return names[place]


def _grey(image_NSS: Tensor) -> NDArray[np.uint8]:
    _expect_finite(image_NSS)
    grey: NDArray[np.uint8] = (image_NSS.clamp(0, 1) * _WHITE).round().to(torch.uint8).numpy()
    return grey


def _expect_finite(drawn: Tensor) -> None:
    if not drawn.isfinite().all():
        raise EchoFedError(
            Code.FEATURES_NOT_FINITE,
            "what was drawn is not finite",
            "take another solver, more steps or less guidance",
        )
