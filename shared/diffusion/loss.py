"""What a denoiser learns from: clean data, made noisy."""

from torch import Tensor

from shared.diffusion.base import Network, Precondition
from shared.diffusion.precondition import denoised, wide
from shared.shapes import expect


def denoising_loss_N(  # noqa: N802  the axis of what it gives
    network: Network,
    precondition: Precondition,
    clean_NCHW: Tensor,
    sigma_N: Tensor,
    noise_NCHW: Tensor,
    *,
    counted_N1HW: Tensor | None = None,
) -> Tensor:
    """Weighted squared error of D, the mean over channels and pixels, one per row.

    Args:
        network: answers (c_in x, c_noise).
        precondition: its wrapping and weight.
        clean_NCHW: normalised latents.
        sigma_N: noise level of each row.
        noise_NCHW: of mean 0 and variance 1; normal, or of another law such as gamma.
        counted_N1HW: 1 for the cells that count, else 0; None for all. The mean is over those of
            the whole batch, so the mean of what it gives is the mean over all that count.

    Reference: Karras et al. 2022 (arXiv 2206.00364), equation 2 with table 1's weights.
    """
    num = expect(clean_NCHW, "N C H W")["N"]
    expect(sigma_N, "N", N=num)
    noisy_NCHW = clean_NCHW + sigma_N.to(clean_NCHW)[:, None, None, None] * noise_NCHW
    error_NCHW = denoised(network, precondition, noisy_NCHW, sigma_N) - clean_NCHW
    error_NCHW = wide(precondition.weight(sigma_N).to(clean_NCHW)) * error_NCHW**2
    if counted_N1HW is None:
        return error_NCHW.mean(dim=(1, 2, 3))
    share = counted_N1HW.mean().clamp(min=1e-6)
    return (error_NCHW * counted_N1HW).mean(dim=(1, 2, 3)) / share
