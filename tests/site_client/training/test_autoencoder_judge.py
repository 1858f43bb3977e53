import numpy as np
import pytest
import torch
from torch import Tensor, nn

from site_client.training.autoencoder_judge import (
    AutoencoderJudge,
    roughness,
    structural_similarity,
)
from site_client.training.squares import Squares


class Off(nn.Module):
    """Gives images back with an error of so much."""

    def __init__(self, error: float) -> None:
        super().__init__()
        self.error = error

    def encode(self, images: Tensor, sectors: Tensor) -> Tensor:
        return images

    def decode(self, latent: Tensor, sectors: Tensor) -> Tensor:
        return (latent + self.error) * sectors


def pair(side: int = 40) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 1, side, side, generator=generator, dtype=torch.float64)
    noise = torch.rand(images.shape, generator=generator, dtype=torch.float64)
    return images, (images + 0.3 * noise).clamp(0, 1)


def test_psnr_is_that_of_the_error_in_the_sector() -> None:
    sector = np.zeros((3, 32, 32), bool)
    sector[:, 8:, 4:28] = True
    pixels = np.random.default_rng(0).integers(0, 200, (3, 32, 32), np.uint8)
    judgement = AutoencoderJudge(Squares(pixels, sector), "cpu")(Off(0.1))
    assert judgement.score == pytest.approx(20, abs=1e-3)
    assert judgement.loss == pytest.approx(0.01, rel=1e-3)
    assert judgement.details["val_texture"] == pytest.approx(1, abs=1e-4)


def test_similarity_of_flat_images_is_that_of_their_levels() -> None:
    dark, bright = torch.full((1, 1, 16, 16), 0.2), torch.full((1, 1, 16, 16), 0.6)
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    found = structural_similarity(dark, bright, torch.ones_like(dark))
    assert float(found) == pytest.approx(expected, rel=1e-3)


@pytest.mark.slow
def test_similarity_is_that_of_torchmetrics() -> None:
    functional = pytest.importorskip("torchmetrics.functional.image")
    images, other = pair()
    theirs = functional.structural_similarity_index_measure(
        other, images, data_range=1.0, reduction="none", return_full_image=True
    )[1]
    inner = theirs[..., 5:-5, 5:-5].mean((1, 2, 3))
    ours = structural_similarity(other, images, torch.ones_like(images))
    torch.testing.assert_close(ours, inner, atol=1e-6, rtol=0)


def test_similarity_is_1_for_equal_images_and_looks_inside_the_sector_only() -> None:
    images, other = pair()
    sectors = torch.zeros_like(images)
    sectors[..., :20, :] = 1
    mixed = images.clone()
    mixed[..., 26:, :] = other[..., 26:, :]
    assert structural_similarity(mixed, images, sectors).tolist() == pytest.approx([1, 1])
    assert (structural_similarity(other, images, sectors) < 0.99).all()


def test_roughness_counts_neighbours_in_the_sector() -> None:
    images = torch.zeros(1, 1, 2, 5)
    images[..., 1] = 0.5
    images[..., 4] = 1.0
    sectors = torch.ones_like(images)
    sectors[..., 4] = 0
    assert float(roughness(images, sectors)) == pytest.approx((0.25 + 0.25) / 3)
