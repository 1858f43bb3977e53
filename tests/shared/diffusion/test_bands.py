"""Laws of the wrapping whose channels differ in deviation."""

import pytest
import torch

from shared.diffusion.bands import EdmBands, wrapping
from shared.diffusion.loss import denoising_loss_N
from shared.diffusion.precondition import Edm, denoised
from shared.errors import Code, EchoFedError
from shared.testing.denoisers import Gaussian

SIGMA_N = torch.logspace(-2, 2, 9, dtype=torch.float64)
DEVIATIONS = (3.0, 1.0, 0.2)


def noise(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(9, 3, 4, 4, generator=generator, dtype=torch.float64)


def test_each_channel_is_wrapped_as_if_it_were_alone() -> None:
    c = EdmBands(DEVIATIONS).coefficients(SIGMA_N)
    for channel, deviation in enumerate(DEVIATIONS):
        alone = Edm(deviation).coefficients(SIGMA_N)
        for part in ("c_skip", "c_out", "c_in"):
            got, wanted = getattr(c, part)[:, channel], getattr(alone, part)
            assert torch.allclose(got, wanted, rtol=1e-12)
    assert torch.equal(c.c_noise, Edm(1.0).coefficients(SIGMA_N).c_noise)


def test_normal_bands_of_the_stated_deviations_need_no_network() -> None:
    x = noise()
    drawn = denoised(lambda x, _: torch.zeros_like(x), EdmBands(DEVIATIONS), x, SIGMA_N)
    for channel, deviation in enumerate(DEVIATIONS):
        law = Gaussian(0.0, deviation)
        for row, sigma in enumerate(SIGMA_N):
            wanted = law.denoise(x[row, channel], sigma)
            assert torch.allclose(drawn[row, channel], wanted, atol=1e-12)


def test_the_wide_bands_count_more_and_all_together_once() -> None:
    precondition = EdmBands(DEVIATIONS)
    c_out = precondition.coefficients(SIGMA_N).c_out
    share = precondition.weight(SIGMA_N) * c_out**2
    assert torch.allclose(share.mean(dim=1), torch.ones_like(SIGMA_N))
    assert torch.allclose(share[0] / share[0].sum(), torch.tensor(DEVIATIONS).double() / 4.2)


def test_even_bands_are_the_plain_wrapping() -> None:
    assert wrapping("edm", (0.5, 0.5)) == Edm(0.5)
    assert wrapping("edm", (0.5, 0.4)) == EdmBands((0.5, 0.4))
    with pytest.raises(EchoFedError) as refused:
        wrapping("flow", (0.5, 0.4))
    assert refused.value.code is Code.CONFIG_INVALID


def test_what_is_not_counted_changes_nothing() -> None:
    clean, counted = noise(1), torch.ones(9, 1, 4, 4, dtype=torch.float64)
    counted[:, :, 2:] = 0
    other = torch.where(counted > 0, clean, clean + 7.0)

    def loss(data: torch.Tensor) -> torch.Tensor:
        answer = torch.full_like(data, 0.3)
        return denoising_loss_N(
            lambda x, _: answer, EdmBands(DEVIATIONS), data, SIGMA_N, noise(2), counted_N1HW=counted
        )

    assert torch.allclose(loss(clean), loss(other))


def test_counting_all_is_the_plain_mean() -> None:
    def ask(x: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        return 0.1 * x

    args = (ask, EdmBands(DEVIATIONS), noise(1), SIGMA_N, noise(2))
    everywhere = torch.ones(9, 1, 4, 4, dtype=torch.float64)
    assert torch.allclose(denoising_loss_N(*args, counted_N1HW=everywhere), denoising_loss_N(*args))
