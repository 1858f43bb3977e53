"""Laws of the wavelet's bands: an isometry that is undone exactly."""

import pytest
import torch
from torch import Tensor

from shared.errors import Code, EchoFedError
from shared.models.haar_autoencoder import HaarAutoencoder, join_bands, split_bands


def pictures() -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.rand(2, 1, 32, 48, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_an_image_comes_back_exactly(levels: int) -> None:
    images, network = pictures(), HaarAutoencoder(levels)
    sectors = torch.ones_like(images)
    sectors[..., :5, :] = 0
    back = network.decode(network.encode(images, sectors), sectors)
    assert torch.allclose(back, images * sectors, atol=1e-12)


def test_bands_keep_every_length_and_angle() -> None:
    a, b = pictures(), pictures().flip(-1)
    assert torch.isclose((split_bands(a) * split_bands(b)).sum(), (a * b).sum(), rtol=1e-12)
    assert torch.allclose(join_bands(split_bands(a)), a, atol=1e-12)


def test_a_flat_image_is_in_the_first_band_alone() -> None:
    images = torch.full((1, 1, 16, 16), 0.75, dtype=torch.float64)
    bands = HaarAutoencoder(2).encode(images, torch.ones_like(images))
    assert torch.allclose(bands[:, 0], torch.tensor(2.0, dtype=torch.float64))
    assert (bands[:, 1:].abs() < 1e-12).all()


def test_each_difference_is_of_its_own_direction() -> None:
    stripes = torch.tensor([0.0, 1.0], dtype=torch.float64).repeat(4)
    upright = stripes.expand(1, 1, 8, 8)
    for image, band in ((upright, 1), (upright.mT, 2)):
        bands = split_bands(image)[0, :, 0, 0]
        assert bands.abs().argsort(descending=True)[:2].tolist().count(band) == 1
        assert bands[3 - band] == 0
        assert bands[3] == 0


@pytest.mark.parametrize("levels", [0, 7])
def test_a_wavelet_of_no_levels_or_too_many_is_refused(levels: int) -> None:
    with pytest.raises(EchoFedError) as refused:
        HaarAutoencoder(levels)
    assert refused.value.code is Code.CONFIG_INVALID
