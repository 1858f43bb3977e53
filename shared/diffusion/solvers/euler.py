"""Euler's step in sigma, which is DDIM and the first order of DPM-Solver++; one call a step."""

from itertools import pairwise

from torch import Tensor

from shared.diffusion.base import Denoise, Noise


def solve(denoise: Denoise, x_NCHW: Tensor, sigmas_S: Tensor, noise: Noise) -> Tensor:
    """Follow the probability flow with order 1."""
    for sigma, below in pairwise(sigmas_S):
        ratio = float(below / sigma)
        x_NCHW = ratio * x_NCHW + (1.0 - ratio) * denoise(x_NCHW, sigma)
    return x_NCHW
