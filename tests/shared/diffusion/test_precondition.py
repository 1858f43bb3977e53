"""Laws of the wrappings: EDM's variances, one denoiser behind all of them, Tweedie, the flow."""

import math

import pytest
import torch
from torch import Tensor

from shared.diffusion import PRECONDITIONS, SCHEDULES, SOLVERS
from shared.diffusion.base import Network
from shared.diffusion.loss import denoising_loss_N
from shared.diffusion.precondition import denoised
from shared.errors import EchoFedError
from shared.testing.denoisers import Gaussian, Mixture

NAMES = PRECONDITIONS.names()
SIGMA_N = torch.logspace(-2, 2, 9, dtype=torch.float64)


def noise(num: int = 9, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num, 1, 4, 4, generator=generator, dtype=torch.float64)


def wide(row_N: Tensor) -> Tensor:
    return row_N[:, None, None, None]


@pytest.mark.parametrize("sigma_data", [0.5, 1.0])
def test_edm_keeps_variances_of_one(sigma_data: float) -> None:
    """V7."""
    precondition = PRECONDITIONS["edm"](sigma_data)
    c = precondition.coefficients(SIGMA_N)
    one = torch.ones_like(SIGMA_N)
    assert torch.allclose(precondition.weight(SIGMA_N) * c.c_out**2, one, atol=1e-12)
    assert torch.allclose(c.c_in**2 * (SIGMA_N**2 + sigma_data**2), one, atol=1e-12)
    published = (SIGMA_N**2 + sigma_data**2) / (SIGMA_N * sigma_data) ** 2
    assert torch.allclose(precondition.weight(SIGMA_N), published, rtol=1e-12)


@pytest.mark.parametrize("name", ["edm", "v"])
def test_normal_data_of_the_stated_deviation_need_no_network(name: str) -> None:
    """V7: the best answer is 0."""
    law = Gaussian(0.0, 0.5)
    x_NCHW = noise()
    drawn = denoised(lambda x, _: torch.zeros_like(x), PRECONDITIONS[name](0.5), x_NCHW, SIGMA_N)
    for row, sigma in enumerate(SIGMA_N):
        assert torch.allclose(drawn[row], law.denoise(x_NCHW[row], sigma), atol=1e-12)


def answers(name: str, x0: Tensor, noise_NCHW: Tensor, sigma_N: Tensor) -> Tensor:
    """What the network of a wrapping is asked for, in the words of its paper."""
    sigma = wide(sigma_N)
    kept = 1.0 / (1.0 + sigma**2)  # abar
    edm_c_skip, edm_c_out = 1.0 / (1.0 + sigma**2), sigma / (1.0 + sigma**2).sqrt()
    return {
        "eps": noise_NCHW,
        "vp": noise_NCHW,
        "ve": -noise_NCHW,
        "v": kept.sqrt() * noise_NCHW - (1.0 - kept).sqrt() * x0,
        "flow": noise_NCHW - x0,
        "edm": (x0 - edm_c_skip * (x0 + sigma * noise_NCHW)) / edm_c_out,
    }[name]


@pytest.mark.parametrize("name", NAMES)
def test_the_right_answer_gives_x0_back(name: str) -> None:
    x0, drawn = noise(seed=1), noise(seed=2)
    answer = answers(name, x0, drawn, SIGMA_N)
    precondition = PRECONDITIONS[name](1.0)
    given = denoised(lambda *_: answer, precondition, x0 + wide(SIGMA_N) * drawn, SIGMA_N)
    assert torch.allclose(given, x0, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_is_the_plain_squared_error_of_the_answer(name: str) -> None:
    x0, drawn, wrong = noise(seed=1), noise(seed=2), noise(seed=3)
    answer = answers(name, x0, drawn, SIGMA_N) + wrong
    loss_N = denoising_loss_N(lambda *_: answer, PRECONDITIONS[name](1.0), x0, SIGMA_N, drawn)
    assert torch.allclose(loss_N, (wrong**2).mean(dim=(1, 2, 3)), rtol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_data_of_another_deviation_are_the_same_data_in_other_units(name: str) -> None:
    def network(x_NCHW: Tensor, _: Tensor) -> Tensor:
        return torch.tanh(x_NCHW)

    if name == "ve":
        pytest.skip("it sees x itself")
    x_NCHW = noise()
    unit = denoised(network, PRECONDITIONS[name](1.0), x_NCHW, SIGMA_N)
    half = denoised(network, PRECONDITIONS[name](0.5), 0.5 * x_NCHW, 0.5 * SIGMA_N)
    assert torch.allclose(half, 0.5 * unit, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_levels_to_learn_at_repeat_by_seed_and_are_levels(name: str) -> None:
    precondition = PRECONDITIONS[name](0.5)
    draws = [
        precondition.draw_sigma(4000, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert draws[0].dtype == torch.float32
    assert bool((draws[0] > 0).all())
    assert bool(precondition.weight(draws[0]).isfinite().all())


@pytest.mark.parametrize(
    ("name", "mean", "deviation"),
    [("edm", -1.2, 1.2), ("flow", math.log(0.5), 1.0)],
)
def test_levels_follow_their_log_normal_law(name: str, mean: float, deviation: float) -> None:
    log_N = PRECONDITIONS[name](0.5).draw_sigma(20000, torch.Generator().manual_seed(3)).log()
    assert float(log_N.mean()) == pytest.approx(mean, abs=4 * deviation / 20000**0.5)
    assert float(log_N.std()) == pytest.approx(deviation, rel=4 / 40000**0.5)


@pytest.mark.parametrize("name", NAMES)
def test_the_noise_told_to_the_network_rises_and_is_of_order_one(name: str) -> None:
    c_noise = PRECONDITIONS[name](1.0).coefficients(SIGMA_N).c_noise
    assert bool((c_noise.diff() > 0).all())
    assert float(c_noise.abs().max()) < 2.0


@pytest.mark.parametrize("name", ["eps", "vp", "v"])
def test_time_is_uniform_on_the_levels_that_are_learnt(name: str) -> None:
    precondition = PRECONDITIONS[name](1.0)
    sigma_N = precondition.draw_sigma(20000, torch.Generator().manual_seed(3)).double()
    time_N = precondition.coefficients(sigma_N).c_noise
    assert torch.allclose(1000 * time_N, (1000 * time_N).round(), atol=1e-2)
    assert float(time_N.mean()) == pytest.approx(0.5005, abs=4 * 0.2887 / 20000**0.5)


def test_the_denoiser_is_tweedies() -> None:
    """V8: D = x + sigma^2 d/dx log p."""
    x = torch.linspace(-2, 2, 41, dtype=torch.float64).requires_grad_()
    for sigma in (0.05, 0.4, 3.0):
        level = torch.tensor(sigma, dtype=torch.float64)
        (slope,) = torch.autograd.grad(Mixture().log_density(x, level).sum(), x)
        assert torch.allclose(Mixture().denoise(x, level), x + sigma**2 * slope, atol=1e-11)


def velocity(x_t: Tensor, time: Tensor, law: Gaussian) -> Tensor:
    """What a perfect flow network answers, by the wrapping turned round."""
    sigma = time / (1.0 - time)
    c = PRECONDITIONS["flow"](1.0).coefficients(sigma.reshape(1))
    x = x_t / c.c_in
    return (law.denoise(x, sigma) - c.c_skip * x) / c.c_out


@pytest.mark.parametrize("time", [0.05, 0.3, 0.7, 0.95])
def test_the_flow_of_a_normal_law(time: float) -> None:
    """V15: v = mu + ((t s^2 - (1 - t)) / V) (x - t mu), with our time, for which 1 is noise."""
    law = Gaussian(0.7, 0.4)
    x_t = torch.linspace(-2, 2, 9, dtype=torch.float64)
    towards = 1.0 - time
    variance = (1.0 - towards) ** 2 + (towards * law.deviation) ** 2
    gain = (towards * law.deviation**2 - (1.0 - towards)) / variance
    expected = law.mean + gain * (x_t - towards * law.mean)
    given = velocity(x_t, torch.tensor(time, dtype=torch.float64), law)
    assert torch.allclose(-given, expected, atol=1e-12)


def test_the_mean_flow_identity() -> None:
    """V16: u = v - (t - r) du/dt along the path, u the mean velocity from t down to r."""
    law, low = Gaussian(0.7, 0.4), 0.2

    def mean_velocity(x_t: Tensor, time: Tensor) -> Tensor:
        sigma = time / (1.0 - time)
        end = law.carried(x_t * (1.0 + sigma), float(sigma), low / (1.0 - low)) * (1.0 - low)
        return (x_t - end) / (time - low)

    x_t = torch.linspace(-2, 2, 9, dtype=torch.float64)
    time, step = torch.tensor(0.8, dtype=torch.float64), 1e-5
    v = velocity(x_t, time, law)
    ahead, behind = (mean_velocity(x_t + way * step * v, time + way * step) for way in (1.0, -1.0))
    change = (ahead - behind) / (2.0 * step)
    u = mean_velocity(x_t, time)
    assert torch.allclose(u, v - (time - low) * change, atol=1e-8)


def test_a_constant_velocity_moves_by_the_whole_time() -> None:
    """V17."""

    def network(x_NCHW: Tensor, _: Tensor) -> Tensor:
        return torch.ones_like(x_NCHW)

    precondition = PRECONDITIONS["flow"](1.0)
    for num in (1, 7, 30):
        sigmas_S = SCHEDULES["flow"](num, 0.01, 1e9)
        drawn = SOLVERS["euler"](
            lambda x, sigma: denoised(network, precondition, x, sigma.expand(len(x))),
            float(sigmas_S[0]) * noise(2),
            sigmas_S,
            lambda: noise(2),
        )
        assert torch.allclose(noise(2) - drawn, torch.ones_like(drawn), atol=1e-7)


def test_a_network_of_half_precision_gives_what_x_is() -> None:
    network: Network = lambda x, _: x.to(torch.bfloat16)  # noqa: E731
    for dtype in (torch.float32, torch.float64):
        x_NCHW = noise(2).to(dtype)
        sigma_N = torch.ones(2, dtype=torch.float64)
        assert denoised(network, PRECONDITIONS["edm"](1.0), x_NCHW, sigma_N).dtype == dtype


def test_rows_and_levels_must_agree() -> None:
    with pytest.raises(EchoFedError, match="axis N"):
        denoising_loss_N(lambda x, _: x, PRECONDITIONS["edm"](1.0), noise(2), SIGMA_N, noise(2))
