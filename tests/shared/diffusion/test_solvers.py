"""SolverContract over the whole table, laws between solvers and of what random ones draw."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from shared.diffusion import SCHEDULES, SOLVERS
from shared.diffusion.base import Solver
from shared.diffusion.schedule import karras
from shared.testing.denoisers import Gaussian, Mixture, end_deviation
from shared.testing.solver_contract import SolverContract

ORDERS = {"euler": 1, "heun": 2, "dpmpp_2m": 2, "dpmpp_3m": 3, "unipc2": 3, "unipc3": 4}
RANDOM_ORDERS = {"ancestral": 1, "ancestral_forward": 1, "churn": 2}


@pytest.fixture(params=SOLVERS.names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def solver(name: str) -> Solver:
    return SOLVERS[name]


@pytest.fixture
def is_random(name: str) -> bool:
    return name in RANDOM_ORDERS


@pytest.fixture
def order(name: str) -> float:
    return (ORDERS | RANDOM_ORDERS)[name]


class TestSolverContract(SolverContract):
    pass


def start(num: int = 9) -> Tensor:
    return 80.0 * torch.linspace(-2.0, 2.0, num, dtype=torch.float64).reshape(1, 1, 1, num)


def solved(name: str, sigmas_S: Tensor) -> tuple[Tensor, int]:
    """The mixture's end, and how often the network was asked."""
    asked: list[float] = []

    def denoise(x_NCHW: Tensor, sigma: Tensor) -> Tensor:
        asked.append(float(sigma))
        return Mixture().denoise(x_NCHW, sigma)

    drawn = SOLVERS[name](denoise, start(), sigmas_S, lambda: torch.zeros_like(start()))
    return drawn, len(asked)


def test_only_methods_of_two_stages_ask_twice_a_step(name: str) -> None:
    expected = 23 if name in ("heun", "churn") else 12
    assert solved(name, karras(12, 0.002, 80.0))[1] == expected


def test_euler_in_sigma_is_ddim() -> None:
    """V12: DDIM in its own variables, x_t = sqrt(abar) x0 + sqrt(1 - abar) eps."""
    sigmas_S = karras(15, 0.002, 80.0)
    kept_S = 1.0 / (1.0 + sigmas_S**2)
    x_NCHW = start() * kept_S[0].sqrt()
    for place in range(15):
        kept, after = kept_S[place], kept_S[place + 1]
        clean = Mixture().denoise(x_NCHW / kept.sqrt(), sigmas_S[place])
        eps = (x_NCHW - kept.sqrt() * clean) / (1.0 - kept).sqrt()
        x_NCHW = after.sqrt() * clean + (1.0 - after).sqrt() * eps
    assert torch.allclose(solved("euler", sigmas_S)[0], x_NCHW, atol=1e-12)


def test_a_first_step_has_order_one_whatever_the_solver() -> None:
    """V12: with one step above 0 all multistep solvers are Euler's."""
    sigmas_S = torch.tensor([80.0, 3.0], dtype=torch.float64)
    for name in ("dpmpp_2m", "dpmpp_3m", "unipc2", "unipc3"):
        assert torch.allclose(solved(name, sigmas_S)[0], solved("euler", sigmas_S)[0], atol=1e-12)


def test_heun_is_not_euler() -> None:
    """V10: a second stage at the old point and level is Euler's step at twice the price."""
    sigmas_S = karras(20, 0.002, 80.0)
    apart = (solved("heun", sigmas_S)[0] - solved("euler", sigmas_S)[0]).abs().max()
    assert apart > 0.05


@pytest.mark.parametrize(
    ("name", "num", "expected"),
    [
        ("ancestral", 10, 0.646),
        ("ancestral", 50, 0.886),
        ("ancestral", 1000, 0.992),
        ("ancestral_forward", 10, 1.198),
        ("ancestral_forward", 50, 1.035),
        ("ancestral_forward", 1000, 1.0015),
        ("euler", 10, 0.723),
        ("euler", 50, 0.944),
        ("euler", 1000, 0.997),
    ],
)
def test_ancestral_steps_shrink_or_widen_by_the_recursion(
    name: str, num: int, expected: float
) -> None:
    """V13: deviation of the samples over that of normal data, of the linear schedule."""
    levels = SCHEDULES["linear"](num, 0.0100005, 157.4)
    law = Gaussian()
    assert end_deviation(SOLVERS[name], law, levels) / 0.5 == pytest.approx(expected, abs=1e-3)
    assert recursion(name, levels, law.deviation) == pytest.approx(
        end_deviation(SOLVERS[name], law, levels), rel=1e-9
    )


def recursion(name: str, sigmas_S: Tensor, deviation: float) -> float:
    """The same in DDPM's variables: v' = A^2 v + s^2, with beta or beta tilde for s^2."""
    kept_S = [float(1.0 / (1.0 + sigma**2)) for sigma in sigmas_S]
    variance = 1.0 - kept_S[0]
    for kept, after in pairwise(kept_S):
        beta = 1.0 - kept / after
        gain = kept**0.5 * deviation**2 / (kept * deviation**2 + 1.0 - kept)
        spread = {"ancestral": beta * (1.0 - after) / (1.0 - kept), "ancestral_forward": beta}
        noise = spread.get(name, 0.0) if after < 1.0 else 0.0
        of_x = ((1.0 - after - (noise if name == "ancestral" else 0.0)) / (1.0 - kept)) ** 0.5
        if name == "ancestral_forward":
            of_x = (1.0 - beta) ** 0.5 * (1.0 - after) / (1.0 - kept)
            gain_of_x0 = after**0.5 * beta / (1.0 - kept)
        else:
            gain_of_x0 = after**0.5 - kept**0.5 * of_x
        variance = (of_x + gain_of_x0 * gain) ** 2 * variance + noise
    return float(variance**0.5)


def test_churn_keeps_the_marginal_in_the_limit() -> None:
    """V14: exact, for each draw is a sum of noises; a wrong s_noise would leave a constant."""
    ratios = [
        end_deviation(SOLVERS["churn"], Gaussian(), karras(num, 0.002, 80.0)) / 0.5
        for num in (100, 200, 400)
    ]
    assert ratios == pytest.approx([1.012, 1.003, 1.0008], abs=1e-3)
