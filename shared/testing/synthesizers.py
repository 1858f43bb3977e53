"""Cards of synthesizers with few weights that nobody trained, for what does not draw with them."""

import numpy as np

from shared.echo.synthesizer import Sampler, SynthesizerCard
from shared.files import arrays_to_bytes, sha256_hex


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
