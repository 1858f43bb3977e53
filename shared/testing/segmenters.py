"""Small segmenters that were never trained: the network's first weights and a card of them."""

import torch

from shared.echo.segmenter import SegmenterCard
from shared.files import sha256_hex
from shared.models.backbone import pack_tensors
from shared.segmentation.segmenter import build_network


def untrained_segmenter(
    seed: int, *, site: str = "north", dataset: str = "echo", **changes: object
) -> tuple[SegmenterCard, bytes]:
    """Card and weights; ``changes`` are fields of the card."""
    fields: dict[str, object] = {
        "datasets": (dataset,),
        "dataset_hashes": ("0" * 64,),
        "origin": "phantom",
        "answers": "masks",
        "network": "unet",
        "options": {"width": 8, "depth": 1},
        "image_size": 32,
        "structures": ("background", "lv"),
        "num_landmarks": 0,
        "views": ("A4C",),
        "parent": "",
        "settings_hash": "",
        "settings": {},
        "metrics": {"dice.lv": 0.5},
        "created": "2026-01-01T00:00:00+00:00",
        **changes,
    }
    torch.manual_seed(seed)
    unnamed = SegmenterCard(id="", site=site, weights_sha256="", seed=seed, **fields)  # type: ignore[arg-type]
    weights = pack_tensors(build_network(unnamed).state_dict())
    sha256 = sha256_hex(weights)
    name = f"{site}-{unnamed.network}-{sha256[:8]}"
    named = {**fields, "id": name, "site": site, "weights_sha256": sha256, "seed": seed}
    return SegmenterCard(**named), weights  # type: ignore[arg-type]
