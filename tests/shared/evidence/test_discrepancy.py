import pytest
import torch
from torch import Tensor, nn

from shared.echo.expert import ExpertCard
from shared.evidence.discrepancy import (
    ChannelMeans,
    ChannelReference,
    batch_norm_reference,
    discrepancy,
    measure_reference,
    read_reference,
)
from shared.files import sha256_hex
from shared.models.backbone import build_expert, feature_width
from shared.models.expert import FrozenExpert, pack_expert

WITH_AND_WITHOUT_BATCH_NORM = ["test_resnet", "test_efficientnet", "test_convnext", "test_vit"]


def stripes(num: int, *, across: bool, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    wave = torch.sin(torch.arange(64) / 2.0)
    image = wave[None, :].expand(64, 64) if across else wave[:, None].expand(64, 64)
    return image + 0.3 * torch.randn(num, 1, 64, 64, generator=generator)


def freeze(model: nn.Module, backbone: str, frames: Tensor) -> FrozenExpert:
    weights, layers = pack_expert(model, frames.split(16))
    card = ExpertCard(
        id="x", site="s", datasets=("d",), dataset_hashes=("h",), origin="phantom",
        backbone=backbone, image_size=64, views=("A2C", "A4C"), feature_width=feature_width(model),
        layers=layers, weights_sha256=sha256_hex(weights), parent="", seed=0, settings_hash="",
        settings={}, metrics={}, created="",
    )  # fmt: skip
    return FrozenExpert(card, weights)


def test_discrepancy_is_zero_where_channel_means_equal_the_reference() -> None:
    mean = {"a": torch.randn(6), "b": torch.randn(3)}
    reference = ChannelReference(mean, {"a": torch.rand(6), "b": torch.rand(3)})
    means_here = {name: value.expand(4, -1) for name, value in mean.items()}
    assert torch.equal(discrepancy(means_here, reference), torch.zeros(4, 2))


def test_discrepancy_of_one_standard_deviation_is_minus_one() -> None:
    reference = ChannelReference({"a": torch.zeros(5)}, {"a": torch.full((5,), 4.0)})
    found = discrepancy({"a": torch.full((1, 5), 2.0)}, reference)
    torch.testing.assert_close(found, torch.tensor([[-1.0]]), atol=1e-5, rtol=0)


def test_batch_norm_sees_its_own_reference_as_home() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3)).eval()
    assert isinstance(model[0], nn.BatchNorm2d)
    model[0].running_mean = torch.tensor([1.0, -2.0, 0.5])
    with ChannelMeans(model) as watcher:
        model(torch.tensor([1.0, -2.0, 0.5])[None, :, None, None].expand(2, 3, 4, 4))
        model[0](torch.tensor([1.0, -2.0, 0.5])[None, :, None, None].expand(2, 3, 4, 4))
    found = discrepancy(watcher.latest, batch_norm_reference(model, ["0"]))
    assert torch.equal(found, torch.zeros(2, 1))


def test_watching_ends_with_the_block() -> None:
    model = build_expert("test_resnet", 2)
    with ChannelMeans(model):
        pass
    assert not any(layer._forward_pre_hooks for layer in model.modules())


def test_measured_reference_is_mean_and_variance_whatever_the_batches() -> None:
    values = torch.randn(10, 4)
    found = measure_reference({"a": part} for part in values.split(3))
    torch.testing.assert_close(found.mean["a"], values.mean(0))
    torch.testing.assert_close(found.variance["a"], values.var(0, correction=0))


def test_reference_survives_the_weights_file() -> None:
    reference = ChannelReference({"a.b": torch.randn(3)}, {"a.b": torch.rand(3)})
    again = read_reference(reference.tensors(), ["a.b"])
    assert torch.equal(again.mean["a.b"], reference.mean["a.b"])
    assert torch.equal(again.variance["a.b"], reference.variance["a.b"])


@pytest.mark.parametrize("backbone", WITH_AND_WITHOUT_BATCH_NORM)
def test_own_frames_are_more_at_home_than_foreign_ones(backbone: str) -> None:
    torch.manual_seed(0)
    model = build_expert(backbone, 2, image_size=64)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    own = stripes(32, across=True)
    label = (own[:, 0, 32, 32] > own[:, 0, 30, 30]).long()
    for _ in range(12):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(own), label).backward()
        optimiser.step()
    expert = freeze(model, backbone, own)
    at_home = expert.look(stripes(16, across=True, seed=1)).discrepancy_NL.mean(1)
    abroad = expert.look(3 * stripes(16, across=False, seed=2) + 2).discrepancy_NL.mean(1)
    assert (at_home <= 0).all()
    assert at_home.min() > abroad.max()


@pytest.mark.parametrize("backbone", ["test_resnet", "test_convnext"])
def test_look_is_deterministic_and_independent_of_the_batch(backbone: str) -> None:
    frames = stripes(8, across=True)
    expert = freeze(build_expert(backbone, 2, image_size=64), backbone, frames)
    whole, again, part = expert.look(frames), expert.look(frames), expert.look(frames[3:5])
    assert torch.equal(whole.discrepancy_NL, again.discrepancy_NL)
    assert torch.equal(whole.features_ND, again.features_ND)
    torch.testing.assert_close(whole.discrepancy_NL[3:5], part.discrepancy_NL)
    assert whole.discrepancy_NL.shape == (8, len(expert.card.layers))
