"""A drawer without a network: its images show what they were drawn from."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.echo.mask import OUTSIDE
from shared.echo.synthesizer import Sampler, SynthesizerCard
from shared.synthesis.order import Labels

SAMPLER = Sampler("euler", "karras", steps=4, sigma_min=0.01, sigma_max=20.0)
DRAWER_CARD = SynthesizerCard(
    id="north-spade_unet-0a1b2c3d",
    site="north",
    datasets=("echo",),
    dataset_hashes=("0" * 64,),
    origin="phantom",
    network="spade_unet",
    options={},
    autoencoder="pixels",
    autoencoder_options={},
    precondition="edm",
    sigma_data=(0.5,),
    latent_shift=(0.0,),
    latent_scale=(1.0,),
    sampler=SAMPLER,
    image_size=32,
    structures=(OUTSIDE, "background", "lv", "myocardium", "la"),
    views=("A2C", "A4C"),
    embedding="view",
    embedding_options={},
    release_threshold=0.9,
    weights_sha256="0a1b2c3d" * 8,
    parent="",
    seed=0,
    settings_hash="",
    settings={},
    metrics={},
    created="2026-01-01T00:00:00+00:00",
)


@dataclass
class ShowingDrawer:
    """Pixels tell label, view, steps and seed; the similarity is of the seed.

    Args:
        card: of the synthesizer that it stands for.
        releases: by seed, whether an image may be released.
        before: is called before each piece.
    """

    card: SynthesizerCard = DRAWER_CARD
    releases: Callable[[int], bool] = lambda _: True
    before: Callable[[], object] = lambda: None

    def draw(
        self,
        labels_NSS: Labels,
        view_N: NDArray[np.int64],
        seeds_N: NDArray[np.int64],
        sampler: Sampler,
    ) -> tuple[Labels, NDArray[np.float32], NDArray[np.bool_]]:
        self.before()
        shown_N = (view_N + sampler.steps + seeds_N % 16).astype(np.uint8)
        images_NSS = np.uint8(40) * labels_NSS + shown_N[:, None, None]
        is_released_N = np.array([self.releases(seed) for seed in seeds_N.tolist()])
        return images_NSS, (seeds_N % 997 / 997).astype(np.float32), is_released_N
