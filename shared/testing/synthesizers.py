"""Small synthesizers that were never trained: the networks' first weights and a card of them."""

import torch
from torch import Tensor, nn

from shared.echo.synthesizer import FEWEST_PATIENTS, Sampler, SynthesizerCard
from shared.files import sha256_hex
from shared.models import AUTOENCODERS, DENOISERS, EMBEDDINGS
from shared.models.backbone import pack_tensors
from shared.synthesis.semantic import AUTOENCODER, DENOISER, EMBEDDING, GALLERY

SAMPLER = Sampler("dpmpp_2m", "karras", steps=4, sigma_min=0.02, sigma_max=20.0)


def untrained_synthesizer(
    seed: int, *, site: str = "north", dataset: str = "echo", **changes: object
) -> tuple[SynthesizerCard, bytes]:
    """Card and weights; ``changes`` are fields of the card."""
    fields: dict[str, object] = {
        "datasets": (dataset,),
        "dataset_hashes": ("0" * 64,),
        "origin": "phantom",
        "network": "spade_unet",
        "options": {"width": 8, "mults": (1, 2), "hidden": 8},
        "autoencoder": "pixels",
        "autoencoder_options": {},
        "precondition": "edm",
        "sigma_data": (0.5,),
        "latent_shift": (0.5,),
        "latent_scale": (0.5,),
        "sampler": SAMPLER,
        "image_size": 32,
        "structures": ("outside", "background", "lv", "myocardium", "la"),
        "views": ("A4C", "A2C"),
        "embedding": "reidentify",
        "embedding_options": {"width": 8},
        "release_threshold": 0.9,
        "parent": "",
        "settings_hash": "",
        "settings": {},
        "metrics": {FEWEST_PATIENTS: 20.0},
        "created": "2026-01-01T00:00:00+00:00",
        **changes,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unnamed = SynthesizerCard(id="", site=site, weights_sha256="", seed=seed, **fields)  # type: ignore[arg-type]
        weights = pack_tensors(_first_tensors(unnamed))
    sha256 = sha256_hex(weights)
    name = f"{site}-{unnamed.network}-{sha256[:8]}"
    named = {**fields, "id": name, "site": site, "weights_sha256": sha256, "seed": seed}
    return SynthesizerCard(**named), weights  # type: ignore[arg-type]


def _first_tensors(card: SynthesizerCard) -> dict[str, Tensor]:
    """All weights; the last layer, which begins at nothing, is drawn too, so that noise counts."""
    networks = {
        DENOISER: DENOISERS[card.network](
            len(card.latent_shift), len(card.structures), len(card.views), **card.options
        ),
        AUTOENCODER: AUTOENCODERS[card.autoencoder](**card.autoencoder_options),
        EMBEDDING: EMBEDDINGS[card.embedding](**card.embedding_options),
    }
    tensors: dict[str, Tensor] = {}
    for prefix, network in networks.items():
        assert isinstance(network, nn.Module)
        tensors |= {prefix + name: value for name, value in network.state_dict().items()}
    for name, value in tensors.items():
        if name.startswith(DENOISER) and value.is_floating_point() and not value.any():
            tensors[name] = 0.1 * torch.randn_like(value)
    width = networks[EMBEDDING](torch.rand(1, 1, 8, 8)).shape[1]
    gallery_GD = nn.functional.normalize(torch.randn(12, width), dim=1)
    return tensors | {GALLERY: gallery_GD}
