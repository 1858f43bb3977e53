"""How faithfully an autoencoder gives validation frames back: PSNR, SSIM and texture."""

import torch
from torch import Tensor, nn

from shared.models.autoencoder import as_autoencoder
from site_client.training.segmenter_judges import Judgement
from site_client.training.squares import Squares, plain_squares

_BATCH = 16  # frames in a forward pass; changes the speed, not the result
_RADIUS, _SIGMA = 5, 1.5  # of the Gaussian window, pixels: Wang et al. 2004, section III.C
_K1, _K2 = 0.01, 0.03  # ibidem
_LEAST_ERROR = 1e-10  # squared grey value: what is given back as it was has 100 dB


class AutoencoderJudge:
    """Scores reconstructions from the latent that is neither drawn nor diffused."""

    def __init__(self, squares: Squares, device: str) -> None:
        """Keep the frames."""
        self._squares, self._device = squares, device

    @torch.inference_mode()
    def __call__(self, model: nn.Module) -> Judgement:
        """PSNR in dB as score, squared error as loss, both means over the frames.

        ``val_texture`` is the root mean square of the differences between neighbours over that of
        the frames: below 1 speckle is blurred, above 1 it is invented.
        """
        autoencoder = as_autoencoder(model.to(self._device).eval())
        rows = []
        for images, sectors in plain_squares(self._squares, _BATCH, self._device):
            images = images * sectors
            found = autoencoder.decode(autoencoder.encode(images, sectors), sectors)
            error_N = sector_mean((found - images).square(), sectors).clamp(min=_LEAST_ERROR)
            texture_N = (roughness(found, sectors) / roughness(images, sectors)).sqrt()
            rows.append(
                torch.stack([error_N, structural_similarity(found, images, sectors), texture_N])
            )
        error_N, ssim_N, texture_N = torch.cat(rows, dim=1).double().cpu()
        psnr = float(-10 * error_N.log10().mean())
        details = {"val_psnr_db": psnr, "val_ssim": float(ssim_N.mean())}
        details["val_texture"] = float(texture_N.mean())
        return Judgement(psnr, float(error_N.mean()), details)


def sector_mean(values_N1HW: Tensor, sector_N1HW: Tensor) -> Tensor:
    """Mean over the sector of each frame (N,)."""
    inside_N = sector_N1HW.sum((1, 2, 3)).clamp(min=1)
    return (values_N1HW * sector_N1HW).sum((1, 2, 3)) / inside_N


def roughness(images_N1HW: Tensor, sector_N1HW: Tensor) -> Tensor:
    """Mean squared difference between neighbours along a row, both inside the sector (N,)."""
    inside = sector_N1HW[..., 1:] * sector_N1HW[..., :-1]
    return sector_mean(images_N1HW.diff(dim=3).square(), inside).clamp(min=_LEAST_ERROR)


def structural_similarity(found_N1HW: Tensor, images_N1HW: Tensor, sector_N1HW: Tensor) -> Tensor:
    """SSIM of images in [0, 1], mean over the pixels of the sector whose window fits in (N,).

    Reference: Wang et al. 2004 (IEEE Transactions on Image Processing 13:600), equation 13.
    """
    places = torch.arange(-_RADIUS, _RADIUS + 1, device=images_N1HW.device)
    window = torch.softmax(-places.square() / (2 * _SIGMA**2), dim=0).to(images_N1HW.dtype)

    def mean(values: Tensor) -> Tensor:
        along_rows = nn.functional.conv2d(values, window[None, None, None])
        return nn.functional.conv2d(along_rows, window[None, None, :, None])

    mean_x, mean_y = mean(found_N1HW), mean(images_N1HW)
    variance_x = mean(found_N1HW.square()) - mean_x.square()
    variance_y = mean(images_N1HW.square()) - mean_y.square()
    covariance = mean(found_N1HW * images_N1HW) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _K1**2) / (mean_x.square() + mean_y.square() + _K1**2)
    rest = (2 * covariance + _K2**2) / (variance_x + variance_y + _K2**2)
    inner = slice(_RADIUS, -_RADIUS)
    return sector_mean(luminance * rest, sector_N1HW[..., inner, inner])
