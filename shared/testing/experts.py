"""Experts made on the spot: a network and a card that fit each other."""

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from shared.echo.expert import ExpertCard
from shared.files import sha256_hex
from shared.models.backbone import feature_width
from shared.models.expert import FrozenExpert, pack_expert


def freeze(
    model: nn.Module,
    backbone: str,
    batches: Iterable[Tensor],
    *,
    views: Sequence[str],
    image_size: int = 64,
) -> FrozenExpert:
    """Freeze a network as an expert.

    Args:
        model: as ``build_expert`` makes it.
        backbone: its name.
        batches: normalised frames (N, 1, H, W) that its reference is taken from.
        views: of its head.
        image_size: rows and columns of the frames.
    """
    weights, layers = pack_expert(model, batches)
    card = ExpertCard(
        id="x",
        site="s",
        datasets=("d",),
        dataset_hashes=("h",),
        origin="phantom",
        backbone=backbone,
        image_size=image_size,
        views=tuple(views),
        feature_width=feature_width(model),
        layers=layers,
        weights_sha256=sha256_hex(weights),
        parent="",
        seed=0,
        settings_hash="",
        settings={},
        metrics={},
        created="",
    )
    return FrozenExpert(card, weights)
