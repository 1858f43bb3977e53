"""Heun's second order: two calls a step, one for the last step to 0."""

from itertools import pairwise

from torch import Tensor

from shared.diffusion.base import Denoise, Noise


def solve(denoise: Denoise, x_NCHW: Tensor, sigmas_S: Tensor, noise: Noise) -> Tensor:
    """Follow the probability flow with order 2.

    Reference: Karras et al. 2022 (arXiv 2206.00364), algorithm 1.
    """
    for sigma, below in pairwise(sigmas_S):
        x_NCHW = step(denoise, x_NCHW, sigma, below)
    return x_NCHW


def step(denoise: Denoise, x_NCHW: Tensor, sigma: Tensor, below: Tensor) -> Tensor:
    """One step; the second slope is taken at the new point and at its own noise level."""
    slope_NCHW = (x_NCHW - denoise(x_NCHW, sigma)) / float(sigma)
    length = float(below - sigma)
    ahead_NCHW = x_NCHW + length * slope_NCHW
    if below == 0:
        return ahead_NCHW
    other_NCHW = (ahead_NCHW - denoise(ahead_NCHW, below)) / float(below)
    return x_NCHW + length / 2.0 * (slope_NCHW + other_NCHW)
