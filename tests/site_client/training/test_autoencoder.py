import math
from pathlib import Path

import numpy as np
import pytest
import torch

from shared.errors import Code, EchoFedError
from shared.models.autoencoder import as_autoencoder, sector_cells
from site_client.settings import AutoencoderSettings
from site_client.training.autoencoder import (
    ImageLesson,
    TrainedAutoencoder,
    latent_statistics,
    train_autoencoder,
)
from site_client.training.checkpoint import Checkpoint
from site_client.training.loop import Step
from site_client.training.squares import Squares, plain_squares

TINY = AutoencoderSettings(
    options={"widths": (8, 16), "blocks": 1}, steps=12, check_every=4, batch_size=4
)


class Killed(Exception):
    pass


def squares(num: int, seed: int, side: int = 32) -> Squares:
    """Smooth grey pictures in fans that differ."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side] / side
    phase = generator.uniform(0, 6, (num, 2, 1, 1))
    pixels = 128 + 100 * np.sin(9 * rows + phase[:, 0]) * np.sin(7 * columns + phase[:, 1])
    width = generator.uniform(0.3, 0.6, (num, 1, 1))
    return Squares(pixels.astype(np.uint8), np.abs(columns - 0.5) < width * (0.2 + rows))


def lesson() -> ImageLesson:
    return ImageLesson(squares(9, 0), squares(3, 1))


def trained(
    folder: Path,
    settings: AutoencoderSettings = TINY,
    *,
    kill_after: float = math.inf,
    seed: int = 1,
) -> TrainedAutoencoder:
    def report(step: Step) -> None:
        if step.done > kill_after:
            raise Killed

    return train_autoencoder(
        lesson(), settings, Checkpoint(folder), report, seed=seed, device="cpu"
    )


def settings_of(**changes: object) -> AutoencoderSettings:
    return AutoencoderSettings.model_validate(TINY.model_dump() | changes)


@pytest.mark.parametrize("network", ["kl", "gamma"])
def test_a_killed_run_ends_as_if_it_had_not_been_killed(tmp_path: Path, network: str) -> None:
    settings = settings_of(network=network, options={"attention": False, **TINY.options})
    whole = trained(tmp_path / "whole", settings)
    with pytest.raises(Killed):
        trained(tmp_path / "killed", settings, kill_after=6)
    again = trained(tmp_path / "killed", settings)
    theirs = again.network.state_dict()
    for name, value in whole.network.state_dict().items():
        assert torch.equal(theirs[name], value), name
    assert again.course.history == whole.course.history
    assert again.course.epoch == 3
    assert (again.latent_shift, again.latent_scale, again.metrics) == (
        whole.latent_shift,
        whole.latent_scale,
        whole.metrics,
    )


def test_training_makes_reconstructions_better(tmp_path: Path) -> None:
    few = trained(tmp_path / "few", settings_of(steps=1))
    many = trained(tmp_path / "many", settings_of(steps=40, check_every=40))
    assert many.metrics["val_psnr_db"] > few.metrics["val_psnr_db"] + 3
    assert many.metrics["val_ssim"] > few.metrics["val_ssim"]


def test_normalised_latent_has_mean_0_and_deviation_1_in_the_sector(tmp_path: Path) -> None:
    found = trained(tmp_path)
    autoencoder = as_autoencoder(found.network)
    inside = []
    for images, sectors in plain_squares(lesson().train, 2, "cpu"):
        cells = sector_cells(sectors, autoencoder.factor)[:, 0] > 0
        latent_NCHW = autoencoder.encode(images, sectors).detach()
        inside.append(latent_NCHW.movedim(1, -1)[cells])
    normalised = (torch.cat(inside) - torch.tensor(found.latent_shift)) / torch.tensor(
        found.latent_scale
    )
    assert len(found.latent_shift) == autoencoder.latent_channels
    torch.testing.assert_close(normalised.mean(0), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(normalised.std(0, correction=0), torch.ones(4), atol=1e-4, rtol=0)


def test_gamma_latent_is_normalised_as_in_the_paper(tmp_path: Path) -> None:
    found = trained(tmp_path, settings_of(network="gamma", steps=1))
    assert (found.latent_shift, found.latent_scale) == ((0.5,), (0.5,))


def test_pixels_need_no_training_and_give_the_image_back(tmp_path: Path) -> None:
    found = trained(tmp_path, settings_of(network="pixels", options={}))
    assert found.course.epoch == 0
    assert found.metrics["val_psnr_db"] == pytest.approx(100)
    assert found.metrics["val_ssim"] == pytest.approx(1)
    assert found.metrics["val_texture"] == pytest.approx(1)
    assert latent_statistics(found.network, lesson().train, "cpu") == ((0.5,), (0.5,))


def test_seconds_end_the_training_with_the_next_validation(tmp_path: Path) -> None:
    assert trained(tmp_path, settings_of(seconds=1e-6)).course.epoch == 1


@pytest.mark.parametrize(("steps", "check_every", "done"), [(12, 4, 12), (7, 4, 6), (3, 4, 3)])
def test_no_more_steps_than_allowed(
    tmp_path: Path, steps: int, check_every: int, done: int
) -> None:
    told: list[Step] = []
    settings = settings_of(steps=steps, check_every=check_every)
    train_autoencoder(lesson(), settings, Checkpoint(tmp_path), told.append, seed=0, device="cpu")
    assert [step.done for step in told] == list(range(1, done + 1))


def test_other_seed_other_weights(tmp_path: Path) -> None:
    one, other = (
        trained(tmp_path / str(seed), settings_of(steps=1), seed=seed).network for seed in (1, 2)
    )
    assert any(
        not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True)
    )


def test_frames_are_needed_in_both_parts(tmp_path: Path) -> None:
    empty = ImageLesson(squares(2, 0), squares(0, 1))
    with pytest.raises(EchoFedError) as caught:
        train_autoencoder(
            empty, TINY, Checkpoint(tmp_path), lambda step: None, seed=0, device="cpu"
        )
    assert caught.value.code is Code.FRAMES_MISSING
