"""A frozen expert at work: features, logits and discrepancy of frames, in one forward pass."""

from collections.abc import Iterable, Iterator, Sequence
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
from shared.models.adapter import AdaptedTrunk, adapter_width
from shared.models.backbone import (
    build_expert,
    feature_width,
    features_and_logits,
    load_weights,
    pack_tensors,
    unpack_tensors,
)
from shared.models.encoder import Encoder, Sight
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
    """An expert built from its card and weights; it never learns again.

    Args:
        encoder: the network that looks at frames; on a trunk that of the trunk, shared by all
            experts which stand on it.
    """

    def __init__(
        self, card: ExpertCard, weights: bytes, trunk: "FrozenExpert | None" = None
    ) -> None:
        """Build the network and find its reference in the weights file or in its BatchNorm buffers.

        Args:
            card: of the expert.
            weights: that the card names.
            trunk: the expert that the card names as trunk.

        Raises:
            EchoFedError: NAME_UNKNOWN, CHECKPOINT_CORRUPT, FEATURE_WIDTH (they do not fit),
                EXPERT_UNKNOWN for a card on a trunk without its trunk.
        """
        tensors = unpack_tensors(weights)
        parameters = {n: t for n, t in tensors.items() if not n.startswith(REFERENCE_PREFIX)}
        if card.trunk:
            encoder = _expect_trunk(card, trunk).encoder
            width = adapter_width(parameters)
            model: nn.Module = AdaptedTrunk(encoder, len(card.views), width=width)
        else:
            model = build_expert(card.backbone, len(card.views), image_size=card.image_size)
            encoder = Encoder(model)
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
        self.encoder: Encoder = encoder
        self._reference = (
            read_reference(tensors, card.layers)
            if len(tensors) > len(parameters)
            else batch_norm_reference(self._model, card.layers)
        )

    def look(self, images_N1HW: Tensor) -> Look:
        """Features, logits and evidence of normalised frames.

        Args:
            images_N1HW: float32, z-scored per image, of the card's image size.
        """
        return look_together([self], images_N1HW)[0]

    def judge(self, sight: Sight) -> Look:
        """Features, logits and evidence of what this expert's encoder saw.

        On a trunk the evidence is the trunk's layers held against their means over the frames that
        the adapter learned from, not against the trunk's own.
        """
        evidence_NL = discrepancy(sight.means, self._reference)
        if not isinstance(self._model, AdaptedTrunk):
            return Look(sight.features_ND, sight.logits_NC, evidence_NL)
        features_ND = self._model.forward_head(self._model.adapt(sight.maps_NTGG), pre_logits=True)
        return Look(features_ND, self._model.fc(features_ND), evidence_NL)


@torch.inference_mode()
def look_together(experts: Sequence[FrozenExpert], images_N1HW: Tensor) -> list[Look]:
    """What several experts of one image size see; a trunk that they share looks once.

    Args:
        experts: at least one.
        images_N1HW: float32, z-scored per image, of the experts' image size.
    """
    size = experts[0].card.image_size
    expect(images_N1HW, "N G H W", G=1, H=size, W=size)
    sights: dict[Encoder, Sight] = {}
    looks = []
    for expert in experts:
        if expert.encoder not in sights:
            sights[expert.encoder] = expert.encoder.see(images_N1HW)
        looks.append(expert.judge(sights[expert.encoder]))
    return looks


def _expect_trunk(card: ExpertCard, trunk: FrozenExpert | None) -> FrozenExpert:
    if trunk is None or trunk.card.id != card.trunk:
        raise EchoFedError(
            Code.EXPERT_UNKNOWN,
            f"expert {card.id} stands on trunk {card.trunk}, which is not here",
            "run an increment, which brings it, or copy it from where the expert was trained",
        )
    known = (trunk.card.weights_sha256, trunk.card.image_size)
    if known != (card.trunk_sha256, card.image_size):
        raise EchoFedError(
            Code.CHECKPOINT_CORRUPT,
            f"expert {card.id} was trained on other weights or pictures than trunk {card.trunk}",
            "fetch expert and trunk again",
        )
    return trunk


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


@torch.inference_mode()
def pack_adapter(
    model: AdaptedTrunk, training_batches: Iterable[Tensor]
) -> tuple[bytes, tuple[str, ...]]:
    """A trained adapter and its head as a weights file, without the trunk; see ``pack_expert``.

    The reference of its evidence is what the trunk's layers say of the training frames, all of
    them: the trunk's own BatchNorm buffers are of other data.
    """
    model.eval()
    reference = measure_reference(model.encoder.see(batch).means for batch in training_batches)
    return pack_tensors(model.state_dict() | reference.tensors()), reference.layers


def _passes(
    model: nn.Module, watcher: ChannelMeans, batches: Iterable[Tensor]
) -> Iterator[dict[str, Tensor]]:
    for images_N1HW in batches:
        features_and_logits(model, images_N1HW)
        yield dict(watcher.latest)
