"""Heun's method with fresh noise before a step, and more noise than was there to go with it."""

import math
from itertools import pairwise

from torch import Tensor

from shared.diffusion.base import Denoise, Noise
from shared.diffusion.solvers.heun import step

_CHURN, _LOW, _HIGH = 40.0, 0.05, 50.0  # of ImageNet, Karras et al. 2022, table 5
_MAX_GAIN = math.sqrt(2.0) - 1.0


def solve(denoise: Denoise, x_NCHW: Tensor, sigmas_S: Tensor, noise: Noise) -> Tensor:
    """Raise the level by fresh noise, ask there, and step down by Heun.

    The fresh noise has its true deviation (s_noise 1): another one moves the marginal.

    Reference: Karras et al. 2022 (arXiv 2206.00364), algorithm 2.
    """
    gain = min(_CHURN / (len(sigmas_S) - 1), _MAX_GAIN)
    for sigma, below in pairwise(sigmas_S):
        raised = sigma
        if _LOW <= sigma <= _HIGH:
            raised = sigma * (1.0 + gain)
            x_NCHW = x_NCHW + float((raised**2 - sigma**2).sqrt()) * noise()
        x_NCHW = step(denoise, x_NCHW, raised, below)
    return x_NCHW
