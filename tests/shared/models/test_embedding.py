import math

import pytest
import torch

from shared.models import EMBEDDINGS
from shared.models.embedding import pair_loss


@pytest.fixture
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    built: torch.nn.Module = EMBEDDINGS["reidentify"](width=8)
    return built.eval()


@pytest.mark.parametrize("side", [16, 64, 112])
def test_vectors_have_length_one_at_any_side(network: torch.nn.Module, side: int) -> None:
    vectors_ND = network(torch.rand(3, 1, side, side))
    assert vectors_ND.shape == (3, 64)
    assert torch.allclose(vectors_ND.norm(dim=1), torch.ones(3), atol=1e-5)


def test_brightness_and_contrast_do_not_matter(network: torch.nn.Module) -> None:
    image_N1SS = torch.rand(2, 1, 64, 64)
    assert torch.allclose(network(image_N1SS), network(30 + 120 * image_N1SS), atol=1e-4)


def test_an_image_does_not_depend_on_its_neighbours(network: torch.nn.Module) -> None:
    image_N1SS = torch.rand(4, 1, 64, 64)
    assert torch.allclose(network(image_N1SS)[2:3], network(image_N1SS[2:3]), atol=1e-5)


def test_an_even_square_has_a_finite_vector(network: torch.nn.Module) -> None:
    assert network(torch.zeros(1, 1, 64, 64)).isfinite().all()


def test_pair_loss_of_orthogonal_pairs_has_a_closed_form() -> None:
    pairs_ND, temperature = torch.eye(5, dtype=torch.float64), 0.5
    # of 9 others one is the partner at similarity 1, eight lie at 0
    expected = math.log(math.exp(1 / temperature) + 8) - 1 / temperature
    assert pair_loss(pairs_ND, pairs_ND, temperature).item() == pytest.approx(expected, abs=1e-12)


def test_pair_loss_is_worse_with_another_patients_frame() -> None:
    pairs_ND = torch.eye(5, dtype=torch.float64)
    assert pair_loss(pairs_ND, pairs_ND.roll(1, 0), 0.5) > pair_loss(pairs_ND, pairs_ND, 0.5)
