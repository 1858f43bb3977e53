import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from shared.models.kl_autoencoder import KLAutoencoder


@pytest.mark.parametrize(("widths", "side"), [((32, 64, 128), 32), ((32, 64), 64)])
def test_256_pixels_become_a_small_latent_of_four_channels(
    widths: tuple[int, ...], side: int
) -> None:
    with torch.device("meta"):
        image = torch.zeros(1, 1, 256, 256)
        assert KLAutoencoder(widths).encode(image, image).shape == (1, 4, side, side)


def test_an_image_of_256_pixels_is_decoded_in_5_billion_operations() -> None:
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        KLAutoencoder().decode(torch.zeros(1, 4, 32, 32), torch.zeros(1, 1, 256, 256))
    assert 1e9 < counter.get_total_flops() <= 5e9


def test_decoder_may_be_smaller_than_the_encoder() -> None:
    network = KLAutoencoder((16, 32, 64), (8, 16), 1)
    images = torch.rand(1, 1, 32, 32)
    latent = network.encode(images, torch.ones_like(images))
    assert latent.shape == (1, 4, 4, 4)
    assert network.decode(latent, torch.ones_like(images)).shape == images.shape
    encoder, decoder = (
        sum(parameter.numel() for parameter in part.parameters())
        for part in (network.encoder, network.decoder)
    )
    assert decoder < encoder / 3


def test_divergence_is_that_from_the_standard_normal() -> None:
    torch.manual_seed(0)
    network = KLAutoencoder((8, 8), (), 1, kl_weight=1.0).double()
    images = torch.rand(2, 1, 16, 16, dtype=torch.float64)
    sectors = torch.ones_like(images)
    mean, log_variance = network.posterior(images, sectors)
    posterior = torch.distributions.Normal(mean, (log_variance / 2).exp())
    expected = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0))
    found = network.loss_terms(images, sectors, torch.Generator().manual_seed(0))["kl"]
    torch.testing.assert_close(found, expected.sum() / sectors.sum())


def test_texture_may_be_left_out_of_the_loss() -> None:
    network = KLAutoencoder((8, 8), (), 1, texture_weight=0.0)
    images = torch.rand(1, 1, 16, 16)
    terms = network.loss_terms(images, torch.ones_like(images), torch.Generator())
    assert set(terms) == {"image", "kl"}
