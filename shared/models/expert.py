"""A frozen expert at work: features, logits and discrepancy of frames, in one forward pass."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from shared.echo.expert import ExpertCard
from shared.errors import Code, EchoFedError
from shared.evidence.discrepancy import (
    REFERENCE_PREFIX,
    ChannelMeans,
    batch_norm_reference,
    discrepancy,
    measure_reference,
    read_reference,
)
from shared.models.backbone import (
    build_expert,
    feature_width,
    features_and_logits,
    load_weights,
    pack_tensors,
    unpack_tensors,
)
from shared.shapes import expect


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What an expert sees in a batch of frames.

    Args:
        features_ND: after pooling, before dropout.
        logits_NC: of the expert's own head.
        discrepancy_NL: evidence by layer, higher = more at home.
    """

    features_ND: Tensor
    logits_NC: Tensor
    discrepancy_NL: Tensor


class FrozenExpert:
    """An expert built from its card and weights; it never learns again."""

    def __init__(self, card: ExpertCard, weights: bytes) -> None:
        """Build the network and find its reference in the weights file or in its BatchNorm buffers.

        Raises:
            EchoFedError: NAME_UNKNOWN, CHECKPOINT_CORRUPT, FEATURE_WIDTH (they do not fit).
        """
        tensors = unpack_tensors(weights)
        parameters = {n: t for n, t in tensors.items() if not n.startswith(REFERENCE_PREFIX)}
        model = build_expert(card.backbone, len(card.views), image_size=card.image_size)
        load_weights(model, parameters)
        width = feature_width(model)
        if width != card.feature_width:
            raise EchoFedError(
                Code.FEATURE_WIDTH,
                f"expert {card.id} has {width} features, its card says {card.feature_width}",
                "fetch card and weights again",
            )
        self.card = card
        self._model = model.eval().requires_grad_(False)
        self._means = ChannelMeans(self._model)
        self._reference = (
            read_reference(tensors, card.layers)
            if len(tensors) > len(parameters)
            else batch_norm_reference(self._model, card.layers)
        )

    @torch.inference_mode()
    def look(self, images_N1HW: Tensor) -> Look:
        """Features, logits and evidence of normalised frames.

        Args:
            images_N1HW: float32, z-scored per image, of the card's image size.
        """
        size = self.card.image_size
        expect(images_N1HW, "N G H W", G=1, H=size, W=size)
        features_ND, logits_NC = features_and_logits(self._model, images_N1HW)
        return Look(features_ND, logits_NC, discrepancy(self._means.latest, self._reference))


@torch.inference_mode()
def pack_expert(
    model: nn.Module, training_batches: Iterable[Tensor]
) -> tuple[bytes, tuple[str, ...]]:
    """A trained model as a weights file, with the reference of its evidence.

    Args:
        model: put into evaluation mode.
        training_batches: normalised training frames (N, 1, H, W), as they look at prediction; a
            model with BatchNorm looks at the first batch only, its buffers being the reference.

    Returns:
        The bytes, and the watched layers in forward order.
    """
    model.eval()
    with ChannelMeans(model) as watcher:
        passes = _passes(model, watcher, training_batches)
        if watcher.has_batch_norm:
            return pack_tensors(model.state_dict()), tuple(next(passes))
        reference = measure_reference(passes)
    return pack_tensors(model.state_dict() | reference.tensors()), reference.layers


def _passes(
    model: nn.Module, watcher: ChannelMeans, batches: Iterable[Tensor]
) -> Iterator[dict[str, Tensor]]:
    for images_N1HW in batches:
        features_and_logits(model, images_N1HW)
        yield dict(watcher.latest)
