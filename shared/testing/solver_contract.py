"""What every solver keeps to: a suite that the tests of the table inherit."""

import math
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.stats import kstest
from torch import Tensor

from shared.diffusion.base import Solver
from shared.diffusion.sample import sample
from shared.diffusion.schedule import karras
from shared.testing.denoisers import Gaussian, Mixture, end_deviation

HIGH, LOW = 80.0, 0.002
STEPS = (100, 200, 400)
SHAPE = (2, 4, 4)  # whole registers: the last few numbers of a row are rounded by other code


class SolverContract:
    """Inherit, and give ``solver``, ``order`` and ``is_random`` as fixtures.

    The order of a random solver is that of the deviation of what it draws.
    """

    def test_data_without_width_are_hit_exactly(self, solver: Solver) -> None:
        drawn = _drawn(solver, Gaussian(0.3, 0.0), [1, 2])
        np.testing.assert_allclose(drawn.numpy(), 0.3, atol=1e-12)

    def test_one_step_gives_the_mean_of_the_data(self, solver: Solver) -> None:
        sigmas_S = torch.tensor([1e8, 0.0], dtype=torch.float64)
        law = Gaussian(0.3, 0.5)
        drawn = sample(
            law.denoise, SHAPE, sigmas_S=sigmas_S, solver=solver, seeds_N=[1], dtype=torch.float64
        )
        np.testing.assert_allclose(drawn.numpy(), 0.3, atol=1e-6)

    def test_it_converges_with_its_order(
        self, solver: Solver, order: float, is_random: bool
    ) -> None:
        law = Gaussian() if is_random else Gaussian(0.3, 0.5)
        errors = [
            abs(end_deviation(solver, law, karras(num, LOW, HIGH)) / law.deviation - 1.0)
            if is_random
            else _error(solver, law, law.carried(_start(), HIGH, LOW), num)
            for num in STEPS
        ]
        assert _slopes(errors) == pytest.approx([order] * (len(STEPS) - 1), abs=0.2)

    def test_it_converges_so_on_a_mixture_too(
        self, solver: Solver, order: float, is_random: bool
    ) -> None:
        if is_random:
            pytest.skip("its paths have no end that is known; its law has")
        errors = [_error(solver, Mixture(), _mixture_end(), num) for num in (160, 320)]
        assert _slopes(errors)[0] > order - 0.3

    def test_it_draws_the_law_that_the_denoiser_knows(self, solver: Solver) -> None:
        law = Mixture()
        drawn = sample(
            law.denoise,
            (1, 1, 4000),
            sigmas_S=karras(200, LOW, HIGH),
            solver=solver,
            seeds_N=[2],
            dtype=torch.float64,
        )
        assert kstest(drawn.flatten().numpy(), law.share_below).pvalue > 0.01

    def test_a_sample_is_that_of_its_seed_in_any_batch(self, solver: Solver) -> None:
        together = _drawn(solver, Mixture(), list(range(8)))
        for seeds in ([3], [7, 3, 5], [2, 3]):
            apart = _drawn(solver, Mixture(), seeds)
            assert torch.equal(apart, together[seeds])
        assert len({float(row.sum()) for row in together}) == len(together)

    def test_single_precision_is_near_the_reference(self, solver: Solver) -> None:
        reference = _drawn(solver, Mixture(), [1, 2, 3])
        single = _drawn(solver, Mixture(), [1, 2, 3], torch.float32)
        assert single.dtype == torch.float32
        # a sample near the ridge between two modes feels rounding a thousandfold
        np.testing.assert_allclose(single.numpy(), reference.numpy(), atol=2e-3)


def _drawn(
    solver: Solver,
    law: Gaussian | Mixture,
    seeds: list[int],
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    sigmas_S = karras(12, LOW, HIGH)
    return sample(law.denoise, SHAPE, sigmas_S=sigmas_S, solver=solver, seeds_N=seeds, dtype=dtype)


def _start() -> Tensor:
    return HIGH * torch.linspace(-1.5, 1.5, 7, dtype=torch.float64).reshape(1, 1, 1, 7)


def _error(solver: Solver, law: Gaussian | Mixture, end: Tensor, num: int) -> float:
    """At the lowest level above 0, for the step to 0 has its own error."""
    solved = solver(law.denoise, _start(), karras(num + 1, LOW, HIGH)[:-1], torch.Tensor)
    return float((solved - end).abs().max())


@cache
def _mixture_end() -> Tensor:
    law = Mixture()

    def slope(sigma: float, x: np.ndarray) -> np.ndarray:
        x_NCHW = torch.from_numpy(x)
        return ((x_NCHW - law.denoise(x_NCHW, torch.tensor(sigma))) / sigma).numpy()

    solved = solve_ivp(
        slope, (HIGH, LOW), _start().flatten().numpy(), method="DOP853", rtol=1e-12, atol=1e-12
    )
    return torch.from_numpy(solved.y[:, -1]).reshape(_start().shape)


def _slopes(errors: list[float]) -> list[float]:
    return [math.log2(coarse / fine) for coarse, fine in pairwise(errors)]
