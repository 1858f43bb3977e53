"""Our solvers beside the schedulers of diffusers, on a mixture whose denoiser is known.

Theirs keep noise levels in float32, so agreement ends at about 1e-6. They differ in: the third
order of DPM-Solver++, which lacks a factor 2; orders that fall towards the last step, of UniPC
always (``lower_order_final``, without which its step to 0 is infinite), of DPM-Solver below 15
steps; their frame, x / sqrt(1 + sigma^2); the deviation sqrt(sigma_max^2 + 1) of EDM schedulers'
first noise; and churn, where theirs asks the network before the noise is added, so that only churn
0 compares.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from shared.diffusion import SOLVERS
from shared.diffusion.schedule import linear_levels
from shared.testing.denoisers import Gaussian, Mixture

diffusers = pytest.importorskip("diffusers")
# its schedulers hand tensors to NumPy in a way that is going out of use
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

LINEAR = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}


def start(sigmas_S: Tensor) -> Tensor:
    unit = torch.linspace(-2.0, 2.0, 9, dtype=torch.float64).reshape(1, 1, 1, 9)
    return float(sigmas_S[0]) * unit


def ours(name: str, sigmas_S: Tensor, law: Gaussian | Mixture) -> Tensor:
    return SOLVERS[name](law.denoise, start(sigmas_S), sigmas_S, torch.Tensor)


def levels(scheduler: Any) -> Tensor:
    return torch.unique_consecutive(scheduler.sigmas.double())


def in_unit_variance(scheduler: Any, law: Gaussian | Mixture, left_out: int = 0) -> Tensor:
    """x after a run of a scheduler of x / sqrt(1 + sigma^2) that is told x0, or before its end."""
    sigmas_S = levels(scheduler)[: len(scheduler.timesteps) + 1 - left_out]
    x = start(sigmas_S) / (1.0 + sigmas_S[0] ** 2).sqrt()
    for sigma, time in zip(sigmas_S[:-1], scheduler.timesteps, strict=False):
        clean = law.denoise(x * (1.0 + sigma**2).sqrt(), sigma)
        x = scheduler.step(clean, time, x).prev_sample
    return x * (1.0 + sigmas_S[-1] ** 2).sqrt()


def multistep(kind: str, num: int, order: int) -> Any:
    options = {"dpmsolver": {"algorithm_type": "dpmsolver++"}, "unipc": {"solver_type": "bh2"}}
    scheduler = {
        "dpmsolver": diffusers.DPMSolverMultistepScheduler,
        "unipc": diffusers.UniPCMultistepScheduler,
    }[kind](
        **LINEAR,
        **options[kind],
        solver_order=order,
        prediction_type="sample",
        lower_order_final=kind == "unipc",  # which else takes an infinite step with order p
        use_karras_sigmas=True,
        thresholding=False,
    )
    scheduler.set_timesteps(num)
    return scheduler


@pytest.mark.parametrize(
    ("name", "kind", "order", "left_out"),
    [
        ("euler", "dpmsolver", 1, 0),
        ("dpmpp_2m", "dpmsolver", 2, 0),
        ("unipc2", "unipc", 2, 0),
        ("unipc3", "unipc", 3, 2),  # the last step but one has order 2 there
    ],
)
def test_multistep_solvers_agree(name: str, kind: str, order: int, left_out: int) -> None:
    scheduler = multistep(kind, 20, order)
    theirs = in_unit_variance(scheduler, Mixture(), left_out)
    sigmas_S = levels(scheduler)[: 21 - left_out]
    assert torch.allclose(ours(name, sigmas_S, Mixture()), theirs, atol=1e-5)


def test_the_third_order_of_dpm_solver_is_ours_with_the_bend_halved() -> None:
    """Ours is nearer to the exact flow by far, since it converges with order 3 and not 2."""
    law = Gaussian(0.3, 0.5)
    scheduler = multistep("dpmsolver", 400, 3)
    sigmas_S = levels(scheduler)
    theirs = in_unit_variance(scheduler, law)
    mine = ours("dpmpp_3m", sigmas_S, law)
    last = law.carried(start(sigmas_S), float(sigmas_S[0]), float(sigmas_S[-2]))
    exact = law.denoise(last, sigmas_S[-2])
    assert (mine - exact).abs().max() < 0.2 * (theirs - exact).abs().max()


def test_ddim_is_euler() -> None:
    scheduler = diffusers.DDIMScheduler(**LINEAR, prediction_type="sample", clip_sample=False)
    scheduler.set_timesteps(25)
    sigmas_S = torch.cat([linear_levels()[scheduler.timesteps], torch.zeros(1).double()])
    x = start(sigmas_S) / (1.0 + sigmas_S[0] ** 2).sqrt()
    for sigma, time in zip(sigmas_S[:-1], scheduler.timesteps, strict=True):
        clean = Mixture().denoise(x * (1.0 + sigma**2).sqrt(), sigma)
        x = scheduler.step(clean, time, x).prev_sample
    assert torch.allclose(ours("euler", sigmas_S, Mixture()), x, atol=1e-5)


def test_heun_agrees_stage_by_stage() -> None:
    scheduler = diffusers.HeunDiscreteScheduler(**LINEAR, use_karras_sigmas=True)
    scheduler.set_timesteps(12)
    sigmas_S = levels(scheduler)

    def stages() -> Iterator[Tensor]:
        yield sigmas_S[0]
        for sigma in sigmas_S[1:-1]:
            yield sigma  # of the second stage
            yield sigma  # of the next step

    scheduler.is_scale_input_called = True  # its warning is about networks
    x = start(sigmas_S)
    for sigma, time in zip(stages(), scheduler.timesteps, strict=True):
        eps = (x - Mixture().denoise(x, sigma)) / sigma
        x = scheduler.step(eps, time, x).prev_sample
    assert torch.allclose(ours("heun", sigmas_S, Mixture()), x, atol=1e-5)


@pytest.mark.parametrize(("name", "order"), [("euler", 0), ("dpmpp_2m", 2)])
def test_edm_schedulers_agree(name: str, order: int) -> None:
    """Their wrapping too: the answer that they are given is that of our precondition's frame."""
    scheduler = (
        diffusers.EDMDPMSolverMultistepScheduler(solver_order=order, lower_order_final=False)
        if order
        else diffusers.EDMEulerScheduler()
    )
    scheduler.set_timesteps(18)
    sigmas_S = levels(scheduler)
    assert float(scheduler.init_noise_sigma) == pytest.approx(80.00625)
    scheduler.is_scale_input_called = True
    x, data = start(sigmas_S), 0.5
    for sigma, time in zip(sigmas_S[:-1], scheduler.timesteps, strict=True):
        total = sigma**2 + data**2
        clean = Mixture().denoise(x, sigma)
        answer = (clean - data**2 / total * x) * total.sqrt() / (sigma * data)
        x = scheduler.step(answer, time, x).prev_sample
    assert torch.allclose(ours(name, sigmas_S, Mixture()), x.double(), atol=1e-5)


def test_flow_matching_agrees() -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=np.linspace(0.99, 0.1, 10).tolist())
    time_S = scheduler.sigmas.double()
    sigmas_S = time_S / (1.0 - time_S)
    x = start(sigmas_S) * (1.0 - time_S[0])
    for flow_time, time in zip(time_S[:-1], scheduler.timesteps, strict=True):
        clean = Mixture().denoise(x / (1.0 - flow_time), flow_time / (1.0 - flow_time))
        velocity = (x - clean) / flow_time  # noise - x0
        x = scheduler.step(velocity, time, x).prev_sample
    assert torch.allclose(ours("euler", sigmas_S, Mixture()), x.double(), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "kind"), [("ancestral", "fixed_small"), ("ancestral_forward", "fixed_large")]
)
def test_ancestral_steps_have_ddpms_two_variances(name: str, kind: str) -> None:
    scheduler = diffusers.DDPMScheduler(
        **LINEAR, variance_type=kind, prediction_type="sample", clip_sample=False
    )
    place = 500
    sigma, below = linear_levels()[place], linear_levels()[place - 1]
    noise = torch.ones(1, 1, 1, 9, dtype=torch.float64)
    after = 1.0 / (1.0 + below**2)
    sigmas_S = torch.stack([sigma, below])
    given = SOLVERS[name](Mixture().denoise, start(sigmas_S), sigmas_S, lambda: noise)
    silent = SOLVERS[name](Mixture().denoise, start(sigmas_S), sigmas_S, lambda: 0.0 * noise)
    variance = float(scheduler._get_variance(place, variance_type=kind))
    assert float((given - silent).mean() * after.sqrt()) ** 2 == pytest.approx(variance, rel=1e-3)
