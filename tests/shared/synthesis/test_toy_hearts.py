"""V26: what a synthesizer draws of toy hearts has the intensities of those it has learnt from."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from shared.diffusion.bands import wrapping
from shared.diffusion.loss import denoising_loss_N
from shared.models import DENOISERS
from shared.models.backbone import pack_tensors, unpack_tensors
from shared.seeding import numpy_generator
from shared.synthesis.maps import one_hot_maps
from shared.synthesis.semantic import DENOISER, Synthesizer, build_synthesizer
from shared.testing.synthesizers import untrained_synthesizer

SIDE = 16
NAMES = ("outside", "background", "lv", "myocardium")
MEANS = np.array([0.0, 0.4, 0.2, 0.7])
SPREAD = 0.06  # of a label's intensity among hearts
NOISE = 0.05  # of a pixel
NUM_STEPS, BATCH = 1200, 32
NUM_DRAWN = 160


def heart_maps(num: int, generator: np.random.Generator) -> np.ndarray:
    """An ellipse of cavity in a ring of wall, in a disc of a sector."""
    down, right = np.indices((SIDE, SIDE)) - (SIDE - 1) / 2
    maps_NSS = np.zeros((num, SIDE, SIDE), np.uint8)
    maps_NSS[:, np.hypot(down, right) < SIDE / 2] = 1
    for labels_SS in maps_NSS:
        middle, radii = generator.uniform(-1.5, 1.5, 2), generator.uniform(2.0, 3.2, 2)
        for label, wall in ((3, 2.0), (2, 0.0)):
            reach = np.hypot(
                (down - middle[0]) / (radii[0] + wall), (right - middle[1]) / (radii[1] + wall)
            )
            labels_SS[(reach < 1) & (labels_SS > 0)] = label
    return maps_NSS


def heart_images(maps_NSS: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Each label of each heart has an intensity of its own, and pixels noise; in [0, 1]."""
    num = len(maps_NSS)
    level_NL = MEANS + SPREAD * generator.standard_normal((num, len(NAMES)))
    images_NSS = level_NL[np.arange(num)[:, None, None], maps_NSS]
    images_NSS += NOISE * generator.standard_normal(maps_NSS.shape)
    return np.clip(images_NSS, 0, 1) * (maps_NSS > 0)


def label_means(images_NSS: np.ndarray, maps_NSS: np.ndarray) -> np.ndarray:
    """Mean of each label of each image but the outside, (N, L - 1)."""
    return np.stack(
        [
            np.where(maps_NSS == label, images_NSS, 0).sum(axis=(1, 2))
            / (maps_NSS == label).sum(axis=(1, 2))
            for label in range(1, len(NAMES))
        ],
        axis=1,
    )


@pytest.fixture(scope="module")
def synthesizer() -> Synthesizer:
    """Trained for a minute on fresh hearts, so that there is nothing to memorise."""
    card, weights = untrained_synthesizer(
        0,
        image_size=SIDE,
        structures=NAMES,
        views=("A4C",),
        options={"width": 16, "mults": (1, 2), "hidden": 16},
    )
    generator, torch_generator = numpy_generator(0, "hearts"), torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    network = DENOISERS[card.network](1, len(NAMES), 1, **card.options)
    average = {name: value.clone() for name, value in network.state_dict().items()}
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
    precondition = wrapping(card.precondition, card.sigma_data)
    for step in range(NUM_STEPS):
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1.0, 2 * (1 - step / NUM_STEPS))
        maps_NSS = heart_maps(BATCH, generator)
        clean = torch.from_numpy(2 * heart_images(maps_NSS, generator) - 1).float()[:, None]
        maps_NLSS = one_hot_maps(maps_NSS, len(NAMES))
        view_N = torch.zeros(BATCH, dtype=torch.int64)
        sigma_N = precondition.draw_sigma(BATCH, torch_generator)
        noise = torch.randn(clean.shape, generator=torch_generator)
        loss = denoising_loss_N(
            lambda x, c, maps=maps_NLSS, view=view_N: network(x, c, maps, view),
            precondition,
            clean,
            sigma_N,
            noise,
        ).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            for name, value in network.state_dict().items():
                average[name].lerp_(value, 0.02 if step < NUM_STEPS // 2 else 0.005)
    tensors = {n: t for n, t in unpack_tensors(weights).items() if not n.startswith(DENOISER)}
    tensors |= {DENOISER + name: value for name, value in average.items()}
    return build_synthesizer(card, pack_tensors(tensors))


def drawn_hearts(
    synthesizer: Synthesizer, num: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    maps_NSS = heart_maps(num, generator)
    images_NSS = synthesizer.images(
        maps_NSS,
        view_N=np.zeros(num, int),
        seeds_N=np.arange(num),
        sampler=replace(synthesizer.card.sampler, steps=16, sigma_min=0.01),
    )
    return maps_NSS, images_NSS / 255.0


@pytest.mark.slow
def test_drawn_hearts_have_the_intensities_of_true_ones(synthesizer: Synthesizer) -> None:
    maps_NSS, images_NSS = drawn_hearts(synthesizer, NUM_DRAWN, numpy_generator(1, "drawn"))
    means_NL = label_means(images_NSS, maps_NSS)
    error_L = SPREAD / NUM_DRAWN**0.5
    assert np.abs(means_NL.mean(axis=0) - MEANS[1:]).max() < 3 * error_L
    # hearts differ from each other as true ones do, and pixels within a heart too
    assert np.allclose(means_NL.std(axis=0), SPREAD, rtol=0.25)
    within = [images_NSS[n][maps_NSS[n] == 1].std() for n in range(NUM_DRAWN)]
    assert np.mean(within) == pytest.approx(NOISE, rel=0.25)


def segmenter_of(maps_NSS: np.ndarray, images_NSS: np.ndarray) -> nn.Module:
    """A small network of masks, after three hundred steps."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 16, 3, 1, 1), nn.ReLU(), nn.Conv2d(16, 16, 5, 1, 2), nn.ReLU()]
    network = nn.Sequential(*layers, nn.Conv2d(16, len(NAMES), 3, 1, 1))
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    x_N2SS, y_NSS = seen(maps_NSS, images_NSS), torch.from_numpy(maps_NSS).long()
    for step in range(300):
        rows = torch.arange(32 * step, 32 * step + 32) % len(x_N2SS)
        loss = nn.functional.cross_entropy(network(x_N2SS[rows]), y_NSS[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network


def seen(maps_NSS: np.ndarray, images_NSS: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack([images_NSS, maps_NSS > 0], axis=1)).float()


def dice_of(network: nn.Module, maps_NSS: np.ndarray, images_NSS: np.ndarray) -> float:
    """Mean Dice of cavity and wall."""
    with torch.no_grad():
        told_NSS = network(seen(maps_NSS, images_NSS)).argmax(dim=1).numpy()
    pairs = [(told_NSS == label, maps_NSS == label) for label in (2, 3)]
    return float(np.mean([2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in pairs]))


@pytest.mark.slow
def test_a_segmenter_learns_from_drawn_hearts_what_it_learns_from_true_ones(
    synthesizer: Synthesizer,
) -> None:
    test_maps = heart_maps(256, numpy_generator(2, "test"))
    test_images = heart_images(test_maps, numpy_generator(2, "test images"))
    maps_NSS, drawn_NSS = drawn_hearts(synthesizer, NUM_DRAWN, numpy_generator(3, "train"))
    true_NSS = heart_images(maps_NSS, numpy_generator(3, "true"))
    dices = [
        dice_of(segmenter_of(maps_NSS, images_NSS), test_maps, test_images)
        for images_NSS in (true_NSS, drawn_NSS)
    ]
    assert dices[0] - dices[1] < 0.02
