"""UniPC of order 3: its corrector makes it converge with order 4; one call a step."""

from torch import Tensor

from shared.diffusion.base import Denoise, Noise
from shared.diffusion.solvers.unipc import correct_and_predict


def solve(denoise: Denoise, x_NCHW: Tensor, sigmas_S: Tensor, noise: Noise) -> Tensor:
    """Follow the probability flow with order 4."""
    return correct_and_predict(denoise, x_NCHW, sigmas_S, order=3)
