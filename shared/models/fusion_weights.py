"""Weights of fusions: packed by the experts' names, copied between fusions, built from a card."""

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray

from shared.echo.expert import Block, FusionCard, FusionVariant
from shared.errors import Code, EchoFedError
from shared.files import arrays_from_bytes, arrays_to_bytes, sha256_hex
from shared.models.blend import Blend
from shared.models.fusion import ScoreFusion
from shared.models.novelty import PREFIX, Novelty, read_novelty
from shared.models.union_head import UnionHead

FusionModel = ScoreFusion | UnionHead | Blend


def new_fusion(blocks: Sequence[Block], variant: FusionVariant, *, seed: int = 0) -> FusionModel:
    """A fusion of a variant with first weights; those of a closed form are zero."""
    if variant == "ridge":
        return UnionHead(blocks)
    if variant == "blend":
        return Blend(blocks, seed=seed)
    return ScoreFusion(blocks, variant, seed=seed)


def copy_shared(source: FusionModel, target: FusionModel) -> int:
    """Copy every weight that both fusions have; returns how many tensors were copied.

    Into a smaller fusion this takes experts out; into a larger one it is a warm start.
    """
    theirs = source.named_weights()
    copied = 0
    for name, window in target.named_weights().items():
        if name in theirs and theirs[name].shape == window.shape:
            window.copy_(theirs[name])
            copied += 1
    return copied


def fusion_to_bytes(fusion: FusionModel, novelty: Novelty | None = None) -> bytes:
    """Pack the weights (by expert ids) and what is kept of datasets as safetensors, float32."""
    windows = fusion.named_weights()
    arrays = {name: window.float().cpu().numpy() for name, window in windows.items()}
    return arrays_to_bytes(arrays | ({} if novelty is None else novelty.arrays()), {})


def build_fusion(card: FusionCard, weights: bytes) -> FusionModel:
    """Build the fusion that a card describes, ready to predict.

    Raises:
        EchoFedError: CHECKPOINT_CORRUPT where weights and card do not belong together.
    """
    fusion = new_fusion(card.blocks, card.variant)
    arrays, _ = _split(weights)
    windows = fusion.named_weights()
    same_shapes = {name: array.shape for name, array in arrays.items()} == {
        name: tuple(window.shape) for name, window in windows.items()
    }
    if sha256_hex(weights) != card.weights_sha256 or fusion.views != card.views or not same_shapes:
        raise EchoFedError(
            Code.CHECKPOINT_CORRUPT,
            f"weights of {card.id} do not fit their card",
            "fetch the fusion again",
        )
    for name, window in windows.items():
        window.copy_(torch.from_numpy(arrays[name]))
    return fusion.eval()


def build_novelty(card: FusionCard, weights: bytes) -> Novelty | None:
    """What a fusion keeps of its datasets; None for fusions that keep nothing.

    Raises:
        EchoFedError: CHECKPOINT_CORRUPT where it is not what the card lists.
    """
    return read_novelty(_split(weights)[1], card.blocks, [one.dataset for one in card.carries])


def _split(weights: bytes) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """The arrays of the fusion itself, and those of its novelty."""
    arrays, _ = arrays_from_bytes(weights)
    kept = {name: array for name, array in arrays.items() if name.startswith(PREFIX)}
    return {name: array for name, array in arrays.items() if name not in kept}, kept
