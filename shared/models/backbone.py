"""Experts' networks: any timm model by name, or one of our own, behind timm's four doors."""

import difflib
from collections.abc import Mapping
from typing import Protocol, cast

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from shared.errors import Code, EchoFedError
from shared.models import BACKBONES


class Backbone(Protocol):
    """The four doors of a timm classifier, and what every torch module has."""

    def forward_features(self, x: Tensor) -> Tensor:
        """The last feature map or tokens."""
        ...

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pooled features, or logits."""
        ...

    def get_classifier(self) -> nn.Module:
        """The linear head."""
        ...

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the head."""
        ...


def build_expert(backbone: str, num_views: int, *, image_size: int = 112) -> nn.Module:
    """Build a grey-image classifier with random weights, channels-last (twice as fast on a CPU).

    Args:
        backbone: name in ``BACKBONES`` or of a timm model.
        num_views: width of the head.
        image_size: rows and columns of the input; matters with position embeddings only.

    Raises:
        EchoFedError: NAME_UNKNOWN with the nearest name, CONFIG_INVALID without one linear head.
    """
    if backbone in BACKBONES:
        model = cast(nn.Module, BACKBONES[backbone](num_views, 1))
    elif timm.is_model(backbone):
        sized = {"img_size": image_size} if _has_fixed_input(backbone) else {}
        model = timm.create_model(backbone, num_classes=num_views, in_chans=1, **sized)
    else:
        raise _unknown(backbone)
    if not isinstance(classifier_of(model), nn.Linear):
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"backbone {backbone!r} has no single linear head",
            "choose one that has, such as mobilenetv4_conv_small",
        )
    draw_small_head(classifier_of(model))
    return model.to(memory_format=torch.channels_last)


def draw_small_head(head: nn.Module) -> None:
    """Start from near-equal probabilities: some timm heads begin with logits around ten."""
    assert isinstance(head, nn.Linear)
    nn.init.normal_(head.weight, std=0.01)
    nn.init.zeros_(head.bias)


def classifier_of(model: nn.Module) -> nn.Module:
    """The head of a model."""
    return cast(Backbone, model).get_classifier()


def feature_width(model: nn.Module) -> int:
    """Number of features before the head."""
    head = classifier_of(model)
    assert isinstance(head, nn.Linear)
    return head.in_features


def features_and_logits(model: nn.Module, images_N1HW: Tensor) -> tuple[Tensor, Tensor]:
    """Features after pooling and logits, in one pass; meant for a model in evaluation mode.

    Returns:
        Features (N, D) and logits (N, C).
    """
    images_N1HW = images_N1HW.contiguous(memory_format=torch.channels_last)
    backbone = cast(Backbone, model)
    features_ND = backbone.forward_head(backbone.forward_features(images_N1HW), pre_logits=True)
    logits_NC: Tensor = backbone.get_classifier()(features_ND)
    return features_ND, logits_NC


def pack_tensors(tensors: Mapping[str, Tensor]) -> bytes:
    """Named tensors as safetensors."""
    return bytes(
        save_safetensors({name: tensor.detach().contiguous() for name, tensor in tensors.items()})
    )


def unpack_tensors(data: bytes) -> dict[str, Tensor]:
    """Named tensors from safetensors.

    Raises:
        EchoFedError: CHECKPOINT_CORRUPT.
    """
    try:
        return dict(load_safetensors(data))
    except (SafetensorError, ValueError) as error:
        raise EchoFedError(
            Code.CHECKPOINT_CORRUPT,
            "the weights are not readable as safetensors",
            "fetch them again",
        ) from error


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put weights into a model; every name and shape must fit.

    Raises:
        EchoFedError: CHECKPOINT_CORRUPT saying what does not fit.
    """
    try:
        model.load_state_dict(dict(tensors), strict=True)
    except RuntimeError as error:
        raise EchoFedError(
            Code.CHECKPOINT_CORRUPT,
            f"the weights do not fit the network: {str(error).splitlines()[-1].strip()[:200]}",
            "the card names another backbone, head or image size than the weights were made for",
        ) from error


def copy_common_weights(
    model: nn.Module,
    views: tuple[str, ...],
    parent: Mapping[str, Tensor],
    parent_views: tuple[str, ...],
) -> None:
    """Start from a parent's weights: the backbone, and the head's rows of the views in common.

    Raises:
        EchoFedError: CHECKPOINT_CORRUPT where the backbones differ.
    """
    head = classifier_of(model)
    prefix = next(name for name, module in model.named_modules() if module is head)
    tensors = dict(parent)
    for name, own in head.state_dict().items():
        rows = own.clone()
        for row, view in enumerate(views):
            if view in parent_views:
                rows[row] = parent[f"{prefix}.{name}"][parent_views.index(view)]
        tensors[f"{prefix}.{name}"] = rows
    load_weights(model, tensors)


def _has_fixed_input(backbone: str) -> bool:
    config = timm.get_pretrained_cfg(backbone, allow_unregistered=True)
    return bool(config is not None and config.fixed_input_size)


def _unknown(backbone: str) -> EchoFedError:
    names = [*BACKBONES.names(), *timm.list_models()]
    near = difflib.get_close_matches(backbone, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "timm.list_models() lists the names"
    return EchoFedError(Code.NAME_UNKNOWN, f"no backbone is called {backbone!r}", hint)
