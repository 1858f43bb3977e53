"""Laws of gamma noise: V2 to V4, and rows that depend on their seeds alone."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from shared.diffusion.gamma import GammaNoise
from shared.diffusion.sample import row_generators
from shared.diffusion.schedule import karras, linear_levels
from shared.errors import Code, EchoFedError

SIGMA_T = linear_levels()
NUM = 20_000


def zeros(value: float = 0.0) -> Tensor:
    return torch.full((1, 1, 1, NUM), value, dtype=torch.float64)


@pytest.mark.parametrize("theta", [0.001, 0.5])
def test_the_frame_of_sigma_is_the_papers(theta: float) -> None:
    """V2: kbar = sum of beta / (abar theta^2), and kbar theta_t^2 = 1 - abar."""
    beta_T = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    kept_T = (1.0 - beta_T).cumprod(0)
    summed_T = (beta_T / (kept_T * theta**2)).cumsum(0)
    ours_T = torch.tensor([GammaNoise(theta).shape_at(float(sigma)) for sigma in SIGMA_T])
    assert torch.allclose(ours_T.double(), summed_T, rtol=1e-6)
    scale_T = kept_T.sqrt() * theta
    assert torch.allclose(summed_T * scale_T**2, 1.0 - kept_T, rtol=1e-11)


def test_many_small_steps_are_one_shot() -> None:
    """V2."""
    noise, levels = GammaNoise(0.5), [0.0, *SIGMA_T[9:100:10].tolist()]
    chain, rows = zeros(), row_generators([1])
    for sigma, above in pairwise(levels):
        chain = noise.raised(chain, sigma, above, rows)
    shot = noise.raised(zeros(), 0.0, levels[-1], row_generators([2]))
    assert stats.ks_2samp(chain.flatten().numpy(), shot.flatten().numpy()).pvalue > 0.01


def test_its_moments_are_those_of_a_gamma_law() -> None:
    """V2: at t = 100 of the linear schedule with theta 0.5 skewness is 2.95, kurtosis 13.07."""
    sigma = float(SIGMA_T[99])
    shape = GammaNoise(0.5).shape_at(sigma)
    assert (2.0 / shape**0.5, 6.0 / shape) == pytest.approx((2.95, 13.07), abs=5e-3)
    drawn = GammaNoise(0.5).raised(zeros(0.3), 0.0, sigma, row_generators([3])).numpy() - 0.3
    assert abs(drawn.mean()) < 4 * sigma / NUM**0.5
    # the variance of a squared draw is (kurtosis + 2) sigma^4
    assert drawn.var() == pytest.approx(sigma**2, rel=4 * (15.07 / NUM) ** 0.5)
    assert stats.skew(drawn.flatten()) == pytest.approx(2.95, rel=0.15)


def test_unit_noise_has_the_skewness_of_its_rows_level() -> None:
    level_N = torch.tensor([0.5, 5.0], dtype=torch.float64)
    drawn = GammaNoise(0.5).unit(level_N, (1, 1, NUM), row_generators([1, 2])).numpy()
    assert drawn.dtype == np.float64
    assert abs(drawn.mean(axis=(1, 2, 3))) == pytest.approx([0.0, 0.0], abs=4 / NUM**0.5)
    assert drawn.var(axis=(1, 2, 3)) == pytest.approx([1.0, 1.0], rel=0.1)
    skewness = [stats.skew(row.flatten()) for row in drawn]
    assert skewness == pytest.approx([2.0, 0.2], abs=0.2)


def test_the_posterior_is_the_beta_law() -> None:
    """V3: going up and down again is the same law, and the share tells nothing of the whole."""
    noise, clean = GammaNoise(0.02), zeros(0.3)
    low, high = float(SIGMA_T[50]), float(SIGMA_T[60])
    up = noise.raised(clean, 0.0, high, row_generators([4]))
    down = noise.lowered(up, clean, (high, low), row_generators([5]))
    direct = noise.raised(clean, 0.0, low, row_generators([6]))
    assert stats.ks_2samp(down.flatten().numpy(), direct.flatten().numpy()).pvalue > 0.01
    whole = (up - clean) / 0.02 + noise.shape_at(high)
    share = ((down - clean) / 0.02 + noise.shape_at(low)) / whole
    law = stats.beta(noise.shape_at(low), noise.shape_at(high) - noise.shape_at(low))
    assert stats.kstest(share.flatten().numpy(), law.cdf).pvalue > 0.01
    both = np.corrcoef(share.flatten().numpy(), whole.flatten().numpy())
    assert abs(both[0, 1]) < 4 / NUM**0.5


def test_the_posterior_of_no_noise_is_the_data() -> None:
    noise, clean = GammaNoise(0.5), zeros(0.3)
    up = noise.raised(clean, 0.0, 2.0, row_generators([4]))
    assert torch.equal(noise.lowered(up, clean, (2.0, 0.0), row_generators([5])), clean)


def test_the_conjugate_denoiser_is_the_mean_and_not_the_median() -> None:
    """V4: k0 = 2, theta = 0.5, t = 21 of the linear schedule."""
    noise, shape, sigma = GammaNoise(0.5), 2.0, SIGMA_T[20]
    generator = np.random.default_rng(7)
    data = torch.from_numpy(0.5 * generator.standard_gamma(shape, (1, 1, 1, NUM)))
    x = noise.raised(data, 0.0, float(sigma), row_generators([8]))
    mean = noise.conjugate_denoise(x, sigma, shape)
    missed = (data - mean).flatten().numpy()
    assert abs(missed.mean()) < 4 * missed.std() / NUM**0.5
    assert abs(np.corrcoef(missed, mean.flatten().numpy())[0, 1]) < 4 / NUM**0.5
    noise_shape = noise.shape_at(float(sigma))
    total, both = x + noise_shape * 0.5, shape + noise_shape
    spread = total**2 * shape * noise_shape / (both**2 * (both + 1.0))
    assert missed.var() == pytest.approx(float(spread.mean()), rel=0.1)
    median = total.numpy() * stats.beta(shape, noise_shape).median()
    of_median, of_mean = np.abs(data.numpy() - median).mean(), np.abs(missed).mean()
    assert (of_median, of_mean) == pytest.approx((0.0126, 0.0225), rel=0.05)


def test_ancestral_steps_lead_to_the_data() -> None:
    noise, shape = GammaNoise(0.2), 4.0
    drawn = noise.sample(
        lambda x, sigma: noise.conjugate_denoise(x, sigma, shape),
        (1, 1, 1000),
        sigmas_S=karras(60, 0.01, 40.0),
        seeds_N=range(4),
        dtype=torch.float64,
    ).numpy()
    deviation = 0.2 * shape**0.5
    assert drawn.mean() == pytest.approx(0.2 * shape, abs=4 * deviation / 4000**0.5)
    # the law of a step is DDPM's in its first two moments only, and few steps shrink (V13)
    assert 0.85 < drawn.std() / deviation < 1.05


def test_a_row_depends_on_its_seed_alone() -> None:
    """V25."""
    noise = GammaNoise(0.2)

    def drawn(seeds: list[int]) -> Tensor:
        return noise.sample(
            lambda x, sigma: noise.conjugate_denoise(x, sigma, 4.0),
            (1, 4, 4),
            sigmas_S=karras(5, 0.01, 40.0),
            seeds_N=seeds,
        )

    together = drawn([1, 2, 3])
    assert together.dtype == torch.float32
    assert torch.equal(together, torch.cat([drawn([1]), drawn([2, 3])]))


@pytest.mark.parametrize("theta", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_that_is_none_is_refused(theta: float) -> None:
    with pytest.raises(EchoFedError) as caught:
        GammaNoise(theta)
    assert caught.value.code is Code.CONFIG_INVALID
