import math

import pytest
import torch

from shared.models.conditioning import FREQUENCIES, Conditioning, geometric, positional


def vectors(name: str, noise_N: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(0)
    told = Conditioning(FREQUENCIES[name](16), 32, 2).double()
    return told(noise_N.double(), torch.zeros(len(noise_N), dtype=torch.int64))


@pytest.mark.parametrize("name", FREQUENCIES)
def test_levels_are_told_apart(name: str) -> None:
    levels_N = torch.linspace(-1.6, 1.1, 50)  # ln(sigma) / 4 over the range of Karras et al.
    told_ND = vectors(name, levels_N)
    assert torch.pdist(told_ND).min() > 1e-4


@pytest.mark.parametrize("name", ["geometric", "positional"])
def test_timesteps_are_told_apart(name: str) -> None:
    assert torch.pdist(vectors(name, torch.arange(0, 1000, 7.0))).min() > 1e-3


def test_positional_frequencies_are_those_of_the_paper() -> None:
    expected = torch.tensor([10_000 ** (-place / 8) for place in range(8)])
    torch.testing.assert_close(positional(8), expected)


def test_geometric_frequencies_span_their_range() -> None:
    ratios = geometric(9)[1:] / geometric(9)[:-1]
    torch.testing.assert_close(ratios, ratios[:1].expand(8))
    torch.testing.assert_close(geometric(9)[[0, -1]], torch.tensor([1e-3, 32.0]))


def test_drawn_frequencies_follow_the_generator_and_stay_with_the_weights() -> None:
    torch.manual_seed(3)
    first = FREQUENCIES["fourier"](1000)
    torch.manual_seed(3)
    assert torch.equal(first, FREQUENCIES["fourier"](1000))
    assert first.std() == pytest.approx(2 * math.pi * 16, rel=0.1)
    assert "frequencies_F" in Conditioning(first, 8, 1).state_dict()
