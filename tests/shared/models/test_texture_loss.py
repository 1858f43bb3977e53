import pytest
import torch
from torch import Tensor

from shared.models.texture_loss import edge_loss, texture_loss


def speckle(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, 1, 64, 64, generator=generator, dtype=torch.float64)


def blurred(image: Tensor) -> Tensor:
    return torch.full_like(image, float(image.mean()))


@pytest.mark.parametrize("loss", [edge_loss, texture_loss])
def test_what_is_equal_costs_nothing_whatever_lies_outside(loss: object) -> None:
    assert callable(loss)
    image, sector = speckle(0), torch.zeros(1, 1, 64, 64, dtype=torch.float64)
    sector[..., 8:50, 12:56] = 1
    other = torch.where(sector > 0, image, 1 - image)
    assert loss(image, other, sector) == 0
    assert loss(image, other, torch.ones_like(sector)) > 0


def test_other_speckle_is_better_than_none_in_texture_and_worse_in_error() -> None:
    """Why texture is in the loss: absolute error alone would choose the blurred picture."""
    image, sector = speckle(0), torch.ones(1, 1, 64, 64, dtype=torch.float64)
    other, flat = speckle(1), blurred(image)
    assert (flat - image).abs().mean() < (other - image).abs().mean()
    assert edge_loss(flat, image, sector) < edge_loss(other, image, sector)
    assert texture_loss(other, image, sector) < 0.3 * texture_loss(flat, image, sector)


def test_a_step_costs_its_height() -> None:
    """One column of differences is off by one half, of 63 columns and none of the rows."""
    flat = torch.zeros(1, 1, 2, 64, dtype=torch.float64)
    step = flat.clone()
    step[..., 32:] = 0.5
    sector = torch.ones_like(flat)
    # two scales: 2 x 64 pixels with both axes, and 1 x 32, which is too low to have neighbours
    assert float(edge_loss(step, flat, sector)) == pytest.approx(0.5 / 63 / 2)
