import math

import pytest
import torch

from shared.models.gamma_autoencoder import (
    PRIOR_RATE,
    PRIOR_SHAPE,
    GammaAutoencoder,
    gamma_divergence,
)

F64 = torch.float64


def scalars(*values: float) -> list[torch.Tensor]:
    return [torch.tensor(value, dtype=F64) for value in values]


def log_density(z: torch.Tensor, shape: torch.Tensor, rate: torch.Tensor) -> torch.Tensor:
    return shape * rate.log() - torch.lgamma(shape) + (shape - 1) * z.log() - rate * z


@pytest.mark.parametrize(("shape", "rate"), [(2.5, 8.0), (6.0, 14.0), (3.0, 5.0)])
def test_divergence_is_that_of_draws(shape: float, rate: float) -> None:
    """V5: within 1 %; a million draws leave about 0.3 %."""
    p_shape, p_rate, q_shape, q_rate = scalars(PRIOR_SHAPE, PRIOR_RATE, shape, rate)
    generator = torch.Generator().manual_seed(0)
    draws = torch._standard_gamma(p_shape.expand(1_000_000), generator=generator) / p_rate
    measured = (log_density(draws, p_shape, p_rate) - log_density(draws, q_shape, q_rate)).mean()
    closed = gamma_divergence(p_shape, p_rate, q_shape, q_rate)
    assert float(closed) == pytest.approx(float(measured), rel=0.01)


def test_divergence_is_zero_for_equal_laws_and_positive_otherwise() -> None:
    shape, rate = torch.meshgrid(
        torch.linspace(1, 8, 15, dtype=F64), torch.linspace(4, 20, 17, dtype=F64), indexing="ij"
    )
    prior = [torch.full_like(shape, value) for value in (PRIOR_SHAPE, PRIOR_RATE)]
    assert gamma_divergence(shape, rate, shape, rate).abs().max() < 1e-12
    assert gamma_divergence(*prior, shape, rate).min() > 0


def test_divergence_goes_from_the_prior_to_the_posterior() -> None:
    laws = [torch.distributions.Gamma(*scalars(*law)) for law in ((3.75, 10.8), (2.0, 9.0))]
    (p, q) = laws
    closed = gamma_divergence(p.concentration, p.rate, q.concentration, q.rate)
    assert float(closed) == pytest.approx(float(torch.distributions.kl_divergence(p, q)))


def test_prior_is_like_the_grey_values_of_a_sector() -> None:
    mean, deviation = PRIOR_SHAPE / PRIOR_RATE, PRIOR_SHAPE**0.5 / PRIOR_RATE
    assert mean == pytest.approx(0.347, abs=5e-4)
    assert deviation == pytest.approx(0.179, abs=5e-4)
    law = torch.distributions.Gamma(*scalars(PRIOR_SHAPE, PRIOR_RATE))
    assert float(law.variance.sqrt()) == pytest.approx(deviation)


@pytest.mark.parametrize(
    ("widths", "side", "millions"), [((64, 128), 128, 3.2), ((64, 128, 192), 64, 8.4)]
)
def test_sizes_are_those_of_the_paper(widths: tuple[int, ...], side: int, millions: float) -> None:
    with torch.device("meta"):
        network = GammaAutoencoder(widths)
        image = torch.zeros(1, 1, 256, 256)
        assert network.encode(image, image).shape == (1, 1, side, side)
    num = sum(parameter.numel() for parameter in network.parameters())
    assert num / 1e6 == pytest.approx(millions, rel=0.1)


@torch.no_grad()
def test_first_posterior_is_near_the_prior() -> None:
    torch.manual_seed(0)
    network = GammaAutoencoder((8, 16), 1, False)
    images = torch.rand(2, 1, 32, 32)
    shape, rate = network.posterior(images, torch.ones_like(images))
    assert float(shape.mean()) == pytest.approx(PRIOR_SHAPE, rel=0.5)
    assert float(rate.mean()) == pytest.approx(PRIOR_RATE, rel=0.5)


@torch.no_grad()
def test_heads_give_multiples_of_the_prior_by_a_sharp_softplus() -> None:
    network = GammaAutoencoder((8,), 1, False).double()
    for head, bias in ((network.shape_head, 0.0), (network.rate_head, 0.2)):
        head.weight.zero_()
        head.bias.fill_(bias)  # type: ignore[union-attr]
    shape, rate = network.posterior(*torch.rand(2, 1, 1, 8, 8, dtype=F64))
    assert shape.unique().tolist() == pytest.approx([PRIOR_SHAPE * math.log(2) / 10])
    assert rate.unique().tolist() == pytest.approx([PRIOR_RATE * math.log1p(math.exp(2)) / 10])


@torch.no_grad()
def test_loss_holds_the_posterior_near_the_prior_by_its_weight_in_the_sector() -> None:
    torch.manual_seed(0)
    network = GammaAutoencoder((8, 16), 1, False).double()
    images = torch.rand(2, 1, 16, 16, dtype=F64)
    sectors = torch.zeros_like(images)
    sectors[..., 4:] = 1
    law = torch.distributions.Gamma(*network.posterior(images, sectors))
    prior = torch.distributions.Gamma(*scalars(PRIOR_SHAPE, PRIOR_RATE))
    expected = torch.distributions.kl_divergence(prior, law)[..., 2:].sum() / (2 * 8 * 8)
    found = network.loss_terms(images, sectors, torch.Generator().manual_seed(0))
    torch.testing.assert_close(found["kl"], 1e-3 * expected)


@torch.no_grad()
def test_latent_is_the_mean_of_the_posterior() -> None:
    torch.manual_seed(0)
    network = GammaAutoencoder((8, 16), 1, False)
    images = torch.rand(2, 1, 32, 32)
    shape, rate = network.posterior(images, torch.ones_like(images))
    torch.testing.assert_close(network.encode(images, torch.ones_like(images)), shape / rate)


def test_what_was_encoded_reconstructs_better_than_draws_from_the_prior() -> None:
    """V6: after a few steps the decoder reads from the latent what the image was."""
    torch.manual_seed(0)
    network = GammaAutoencoder((8, 16), 1, False)
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(16, 1, 4, 4, generator=generator)
    images = torch.nn.functional.interpolate(coarse, scale_factor=4.0)
    sectors = torch.ones_like(images)
    adam = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(60):
        adam.zero_grad()
        torch.stack(list(network.loss_terms(images, sectors, generator).values())).sum().backward()
        adam.step()
    latent = network.encode(images, sectors).detach()
    law = torch.full_like(latent, PRIOR_SHAPE)
    prior = torch._standard_gamma(law, generator=generator) / PRIOR_RATE
    from_image, from_prior = (
        float((network.decode(z, sectors) - images).square().mean().detach())
        for z in (latent, prior)
    )
    assert from_image < 0.5 * from_prior
