"""Figures on features have the values that closed forms give them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from shared.errors import Code, EchoFedError
from shared.models.backbone import unpack_tensors
from shared.models.unet import UNetTrunk
from shared.testing.segmenters import untrained_segmenter

pytest.importorskip("torch_fidelity")
from site_client.judge import (
    encoder_features,
    encoder_of,
    frechet_distance,
    kernel_distance,
    likeness,
    memorised_share,
    precision_recall,
)

WIDTH = 64


def normal(seed: int, num: int, width: int = WIDTH) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num, width, generator=generator, dtype=torch.float64)


def test_frechet_distance_of_two_gaussians_is_the_closed_form() -> None:
    mean, deviation = 0.2, 1.5
    found = frechet_distance(mean + deviation * normal(1, 20_000), normal(0, 20_000))
    assert found == pytest.approx(WIDTH * (mean**2 + (1 - deviation) ** 2), rel=0.02)


@pytest.mark.parametrize(("num", "bias"), [(200, 10.8), (1000, 2.2), (5000, 0.43)])
def test_frechet_distance_of_one_law_is_the_bias_of_its_size(num: int, bias: float) -> None:
    found = np.mean(
        [frechet_distance(normal(2 * n, num), normal(2 * n + 1, num)) for n in range(2)]
    )
    assert found == pytest.approx(bias, rel=0.1)


def test_kernel_distance_of_one_law_has_no_bias() -> None:
    repeats = [kernel_distance(normal(2 * n, 200), normal(2 * n + 1, 200)) for n in range(40)]
    assert abs(np.mean(repeats)) < 3 * np.std(repeats, ddof=1) / np.sqrt(len(repeats))


def test_kernel_distance_of_unlike_laws_is_large() -> None:
    assert kernel_distance(0.2 + 1.5 * normal(0, 200), normal(1, 150)) > 0.1


def test_precision_and_recall_of_a_set_with_itself_are_one() -> None:
    assert precision_recall(normal(0, 200), normal(0, 200)) == (1.0, 1.0)


def test_precision_and_recall_of_sets_far_apart_are_nothing() -> None:
    assert precision_recall(100 + normal(0, 200), normal(1, 200)) == (0.0, 0.0)


def test_one_image_drawn_over_and_over_is_precise_and_covers_nothing() -> None:
    assert precision_recall(1e-9 * normal(1, 200, 2), normal(0, 200, 2)) == (1.0, 0.0)


def test_likeness_names_what_is_drawn_first() -> None:
    found = likeness(1e-9 * normal(1, 200, 2), normal(0, 200, 2))
    assert found.precision > found.recall


def test_copies_of_training_frames_count_as_memorised_and_strangers_do_not() -> None:
    gallery, strangers, others = (
        torch.nn.functional.normalize(normal(seed, num, 16))
        for seed, num in ((0, 500), (1, 300), (2, 2000))
    )
    copies = torch.nn.functional.normalize(gallery + 0.02 * normal(3, 500, 16))
    assert memorised_share(copies, strangers, gallery) == 1.0
    assert memorised_share(others, strangers, gallery) == pytest.approx(0.05, abs=0.03)


def test_too_few_images_are_refused() -> None:
    with pytest.raises(EchoFedError) as caught:
        likeness(normal(0, 3), normal(1, 50))
    assert caught.value.code is Code.FRAMES_MISSING


def test_features_are_the_mean_of_the_deepest_level_of_each_image_alone() -> None:
    encoder = UNetTrunk(width=8, depth=2, patch=2).eval()
    pixels_NSS = np.random.default_rng(0).integers(0, 255, (40, 24, 24), dtype=np.uint8)
    features_ND = encoder_features(encoder, pixels_NSS)
    assert features_ND.shape == (40, 32)
    assert features_ND.dtype == torch.float64
    alone_1D = encoder_features(encoder, pixels_NSS[35:36])
    torch.testing.assert_close(alone_1D[0], features_ND[35], rtol=1e-4, atol=1e-5)


def test_the_trunk_of_a_segmenter_judges_with_its_own_weights() -> None:
    card, weights = untrained_segmenter(1)
    encoder = encoder_of(card, weights)
    first = unpack_tensors(weights)["trunk.stem.0.weight"]
    torch.testing.assert_close(dict(encoder.named_parameters())["stem.0.weight"], first)
    assert not encoder.training


def test_a_network_without_a_trunk_or_taught_by_drawn_images_is_refused() -> None:
    card, weights = untrained_segmenter(1)
    with pytest.raises(EchoFedError) as caught:
        encoder_of(replace(card, origin="synthetic"), weights)  # type: ignore[arg-type]
    assert caught.value.code is Code.CONFIG_INVALID


def test_brightness_and_contrast_of_an_image_do_not_count() -> None:
    encoder = UNetTrunk(width=8, depth=2).eval()
    pixels_NSS = np.random.default_rng(0).integers(0, 100, (2, 16, 16), dtype=np.uint8)
    plain, bright = (encoder_features(encoder, p) for p in (pixels_NSS, 2 * pixels_NSS + 10))
    torch.testing.assert_close(plain, bright, rtol=1e-3, atol=1e-4)
