from typing import Any

import pytest
import torch
from torch import Tensor, nn

from shared.errors import Code, EchoFedError
from shared.models.adm import Adm, DdpmPlusPlus, NcsnPlusPlus
from shared.models.spade import Spade

SMALL: dict[str, Any] = {"width": 16, "mults": (1, 2), "blocks": 1, "attention": (1,), "hidden": 4}
KINDS = [Adm, DdpmPlusPlus, NcsnPlusPlus]


def ask(network: nn.Module, size: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x_NCHW = torch.randn(2, 1, size, size, generator=generator)
    maps_NLHW = torch.rand(2, 3, size, size, generator=generator)
    answer: Tensor = network(x_NCHW, torch.ones(2), maps_NLHW, torch.zeros(2, dtype=torch.int64))
    return answer


def test_the_variance_has_channels_of_its_own() -> None:
    assert ask(Adm(1, 3, 1, learns_variance=True, **SMALL)).shape == (2, 2, 8, 8)


@pytest.mark.parametrize("kind", KINDS)
def test_the_map_is_read_behind_the_encoder_only(kind: type[Adm]) -> None:
    network = kind(1, 3, 1, **SMALL)
    for part in (network.down, network.halve):
        assert not any(isinstance(layer, Spade) for layer in part.modules())
    for part in (network.middle, network.after, network.up, network.enlarge):
        assert not any(isinstance(layer, nn.GroupNorm) for layer in part.modules())


def test_the_latent_itself_passes_beside_the_encoder_of_ncsnpp() -> None:
    network = NcsnPlusPlus(1, 3, 1, **SMALL)
    nn.init.normal_(network.last.weight)
    with torch.no_grad():
        before = ask(network)
        network.aside[0].weight.zero_()
        assert not torch.equal(ask(network), before)


def test_widths_that_32_groups_cannot_share_have_fewer_groups() -> None:
    network = Adm(1, 3, 1, **SMALL | {"width": 24, "mults": (1, 3, 4)})
    groups = {layer.groups for layer in network.modules() if isinstance(layer, Spade)}
    assert groups <= {6, 12, 18, 24, 28, 30, 32}
    assert ask(network).shape == (2, 1, 8, 8)


def test_unknown_frequencies_are_refused() -> None:
    with pytest.raises(EchoFedError) as refused:
        Adm(1, 3, 1, embedding="random", **SMALL)
    assert refused.value.code is Code.CONFIG_INVALID


@pytest.mark.parametrize(("kind", "million"), [(DdpmPlusPlus, 55.7), (NcsnPlusPlus, 55.7)])
def test_without_the_map_they_are_as_large_as_the_published_ones(
    kind: type[Adm], million: float
) -> None:
    with torch.device("meta"):
        network = kind(3, 3, 1, attention=(1,))
    maps = sum(
        parameter.numel()
        for layer in network.modules()
        if isinstance(layer, Spade)
        for parameter in layer.parameters()
    )
    parameters = sum(parameter.numel() for parameter in network.parameters()) - maps
    # Karras et al. 2022, table 7: 56 million for CIFAR-10, with attention behind fewer blocks
    assert parameters == pytest.approx(million * 1e6, rel=0.03)
