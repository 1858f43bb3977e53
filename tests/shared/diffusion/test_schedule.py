"""Laws of the noise levels."""

import pytest
import torch

from shared.diffusion import SCHEDULES
from shared.diffusion.schedule import cosine_levels, linear_levels, place_of
from shared.errors import Code, EchoFedError

NAMES = SCHEDULES.names()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("num", [1, 2, 18])
def test_levels_fall_from_the_first_to_the_last_and_then_to_0(name: str, num: int) -> None:
    sigmas_S = SCHEDULES[name](num, 0.02, 80.0)
    assert sigmas_S.dtype == torch.float64
    assert len(sigmas_S) == num + 1
    assert bool((sigmas_S.diff() < 0).all())
    assert float(sigmas_S[-1]) == 0.0
    assert float(sigmas_S[0]) == pytest.approx(80.0)
    assert num == 1 or float(sigmas_S[-2]) == pytest.approx(0.02)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("num", "low", "high"), [(0, 0.02, 80.0), (5, 80.0, 0.02), (5, 0.0, 80.0)])
def test_no_schedule_is_refused(name: str, num: int, low: float, high: float) -> None:
    with pytest.raises(EchoFedError) as caught:
        SCHEDULES[name](num, low, high)
    assert caught.value.code is Code.CONFIG_INVALID


def test_levels_that_ddpm_has_not_are_refused_with_those_it_has() -> None:
    with pytest.raises(EchoFedError, match=r"0\.002") as caught:
        SCHEDULES["linear"](10, 0.002, 80.0)
    assert caught.value.hint == "it has those from 0.01 to 157.4"


@pytest.mark.parametrize(
    ("name", "levels_T"), [("cosine", cosine_levels()), ("linear", linear_levels())]
)
def test_a_thousand_steps_are_ddpms_own(name: str, levels_T: torch.Tensor) -> None:
    sigmas_S = SCHEDULES[name](1000, float(levels_T[0]), float(levels_T[-1]))
    assert torch.allclose(sigmas_S[:-1].flip(0), levels_T, rtol=1e-10)
    assert torch.allclose(place_of(levels_T, levels_T), torch.arange(1000.0).double(), atol=1e-9)


def test_noise_that_is_added_step_by_step_is_that_of_one_shot() -> None:
    """V1: mean sqrt(abar) x0 and variance 1 - abar, from the betas themselves."""
    beta_T = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    mean, variance = 1.0, 0.0
    for beta, sigma in zip(beta_T.tolist(), linear_levels().tolist(), strict=True):
        mean, variance = (1.0 - beta) ** 0.5 * mean, (1.0 - beta) * variance + beta
        kept = 1.0 / (1.0 + sigma**2)
        assert mean == pytest.approx(kept**0.5, rel=1e-9)
        assert variance == pytest.approx(1.0 - kept, rel=1e-9)


def test_the_cosine_schedule_follows_its_cosine() -> None:
    time = torch.arange(0, 999, dtype=torch.float64) + 1.0
    angle = (time / 1000 + 0.008) / 1.008 * torch.pi / 2
    offset = torch.tensor(0.008 / 1.008 * torch.pi / 2, dtype=torch.float64)
    kept = torch.cos(angle) ** 2 / torch.cos(offset) ** 2
    assert torch.allclose(1.0 / (1.0 + cosine_levels()[:999] ** 2), kept, rtol=1e-9)


def test_the_flow_grid_is_even_in_time_down_to_its_last_step() -> None:
    time_S = SCHEDULES["flow"](10, 1.0 / 9.0, 1e9)
    time_S = time_S / (1.0 + time_S)
    assert torch.allclose(time_S.diff(), torch.full((10,), -0.1, dtype=torch.float64), atol=1e-8)
    assert float(-time_S.diff().sum()) == pytest.approx(1.0, abs=1e-8)


def test_karras_grid_is_the_published_one() -> None:
    sigmas_S = SCHEDULES["karras"](18, 0.002, 80.0)
    assert sigmas_S[:3].tolist() == pytest.approx([80.0, 57.586, 40.786], rel=1e-4)
