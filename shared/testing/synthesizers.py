"""Synthesizers that nobody trained: a card with few weights, and a drawing without a network."""

import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.echo.synthesizer import Sampler, SynthesizerCard, load_synthesizer_files
from shared.files import arrays_to_bytes, sha256_hex
from shared.rpc.process import Arrays, Forward
from shared.synthesis.rows import by_sampler
from shared.testing.drawers import ShowingDrawer


def named_synthesizer(
    seed: int, *, site: str = "north", dataset: str = "echo", **changes: object
) -> tuple[SynthesizerCard, bytes]:
    """Card and weights; ``changes`` are fields of the card."""
    rng = np.random.default_rng(seed)
    arrays = {"denoiser.bias": rng.normal(size=4).astype(np.float32)}
    weights = arrays_to_bytes(arrays, {})
    sha256 = sha256_hex(weights)
    fields: dict[str, object] = {
        "datasets": (dataset,),
        "dataset_hashes": ("0" * 64,),
        "origin": "phantom",
        "network": "unet",
        "options": {"width": 8},
        "autoencoder": "pixels",
        "autoencoder_options": {},
        "precondition": "edm",
        "sigma_data": 0.5,
        "latent_shift": (0.0,),
        "latent_scale": (1.0,),
        "sampler": Sampler("heun", "karras", 4, 0.002, 80.0),
        "image_size": 16,
        "structures": ("outside", "background", "lv"),
        "views": ("A4C",),
        "embedding": "plain",
        "embedding_options": {},
        "release_threshold": 0.9,
        "weights_sha256": sha256,
        "parent": "",
        "settings_hash": "",
        "settings": {},
        "metrics": {"val_loss": 0.5},
        "created": "2026-01-01T00:00:00+00:00",
        **changes,
    }
    name = f"{site}-{fields['network']}-{sha256[:8]}"
    card = SynthesizerCard(**{"id": name, "site": site, "seed": seed, **fields})  # type: ignore[arg-type]
    return card, weights


def build_showing(folder: str) -> Forward:
    """What a worker may build of a folder: a ``ShowingDrawer``, each step a millisecond."""
    card, _ = load_synthesizer_files(Path(folder))
    drawer = ShowingDrawer(card)

    def forward(
        labels_NSS: NDArray[np.uint8],
        view_N: NDArray[np.int64],
        seeds_N: NDArray[np.int64],
        rows_NB: NDArray[np.uint8],
    ) -> Arrays:
        images_NSS = np.empty_like(labels_NSS)
        similarity_N, is_released_N = np.empty(len(view_N), np.float32), np.empty(len(view_N), bool)
        for sampler, at in by_sampler(rows_NB):
            time.sleep(sampler.steps / 1000.0)
            drawn = drawer.draw(labels_NSS[at], view_N[at], seeds_N[at], sampler)
            images_NSS[at], similarity_N[at], is_released_N[at] = drawn
        return images_NSS, similarity_N, is_released_N

    return forward
