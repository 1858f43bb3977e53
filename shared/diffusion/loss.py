"""What a denoiser learns from: clean data, made noisy."""

from torch import Tensor

from shared.diffusion.base import Network, Precondition
from shared.diffusion.precondition import denoised
from shared.shapes import expect


def denoising_loss_N(  # noqa: N802  the axis of what it gives
    network: Network,
    precondition: Precondition,
    clean_NCHW: Tensor,
    sigma_N: Tensor,
    noise_NCHW: Tensor,
) -> Tensor:
    """Weighted squared error of D, the mean over channels and pixels, one per row.

    Args:
        network: answers (c_in x, c_noise).
        precondition: its wrapping and weight.
        clean_NCHW: normalised latents.
        sigma_N: noise level of each row.
        noise_NCHW: of mean 0 and variance 1; normal, or of another law such as gamma.

    Reference: Karras et al. 2022 (arXiv 2206.00364), equation 2 with table 1's weights.
    """
    num = expect(clean_NCHW, "N C H W")["N"]
    expect(sigma_N, "N", N=num)
    noisy_NCHW = clean_NCHW + sigma_N.to(clean_NCHW)[:, None, None, None] * noise_NCHW
    error_NCHW = denoised(network, precondition, noisy_NCHW, sigma_N) - clean_NCHW
    weight_N = precondition.weight(sigma_N).to(clean_NCHW)
    return weight_N * (error_NCHW**2).mean(dim=(1, 2, 3))
