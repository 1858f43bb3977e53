import pytest
import torch

from shared.errors import Code, EchoFedError
from shared.models import BACKBONES
from shared.models.backbone import (
    build_expert,
    classifier_of,
    copy_common_weights,
    feature_width,
    features_and_logits,
    load_weights,
    pack_tensors,
    unpack_tensors,
)

NAMES = [*BACKBONES.names(), "test_resnet", "test_efficientnet", "test_convnext", "test_vit"]


def images(num: int = 2, size: int = 64) -> torch.Tensor:
    return torch.randn(num, 1, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", NAMES)
def test_head_of_the_features_is_the_model(name: str) -> None:
    model = build_expert(name, 3, image_size=64).eval()
    with torch.inference_mode():
        features_ND, logits_NC = features_and_logits(model, images())
        torch.testing.assert_close(logits_NC, model(images()))
    assert features_ND.shape == (2, feature_width(model))


@pytest.mark.parametrize("name", NAMES)
def test_weights_survive_the_file_bit_for_bit(name: str) -> None:
    model = build_expert(name, 3, image_size=64).eval()
    other = build_expert(name, 3, image_size=64).eval()
    load_weights(other, unpack_tensors(pack_tensors(model.state_dict())))
    with torch.inference_mode():
        assert torch.equal(model(images()), other(images()))


def test_weights_of_another_head_are_refused() -> None:
    weights = build_expert("test_resnet", 3).state_dict()
    with pytest.raises(EchoFedError) as refusal:
        load_weights(build_expert("test_resnet", 4), weights)
    assert refusal.value.code == Code.CHECKPOINT_CORRUPT


def test_damaged_weights_are_refused() -> None:
    with pytest.raises(EchoFedError) as refusal:
        unpack_tensors(pack_tensors(build_expert("test_resnet", 3).state_dict())[:-9])
    assert refusal.value.code == Code.CHECKPOINT_CORRUPT


def test_unknown_backbone_names_the_nearest() -> None:
    with pytest.raises(EchoFedError, match="no backbone") as refusal:
        build_expert("mobilenetv4_conv_smal", 3)
    assert "mobilenetv4_conv_small" in refusal.value.hint


def test_head_follows_the_views_in_common_and_the_backbone_is_the_parents() -> None:
    parent = build_expert("test_resnet", 2)
    child = build_expert("test_resnet", 3)
    fresh = classifier_of(child).weight[1].clone()  # type: ignore[index]
    copy_common_weights(child, ("A4C", "PLAX", "A2C"), parent.state_dict(), ("A2C", "A4C"))
    head, old = classifier_of(child), classifier_of(parent)
    assert torch.equal(head.weight[0], old.weight[1])  # type: ignore[index]
    assert torch.equal(head.weight[2], old.weight[0])  # type: ignore[index]
    assert torch.equal(head.weight[1], fresh)  # type: ignore[index]
    theirs = dict(parent.named_parameters())
    assert all(
        torch.equal(value, theirs[name])
        for name, value in child.named_parameters()
        if value.shape == theirs[name].shape
    )


def test_papers_network_has_the_papers_size() -> None:
    model = build_expert("cifar_resnet18", 8)
    num = sum(value.numel() for value in model.parameters())
    assert num == pytest.approx(11.17e6, rel=2e-3)
    with torch.inference_mode():
        assert model.eval().forward_features(images(1, 112)).shape == (1, 512, 14, 14)  # type: ignore[operator]
