"""Train the autoencoder of a synthesizer on squares of grey values; no label is looked at."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from shared.errors import Code, EchoFedError
from shared.models.autoencoder import as_autoencoder, draw_autoencoder, sector_cells
from site_client.settings import AutoencoderSettings
from site_client.training.autoencoder_judge import AutoencoderJudge
from site_client.training.checkpoint import Checkpoint, Course
from site_client.training.loop import Objective, Plan, Step, train
from site_client.training.squares import SquareBatch, SquareMaterial, Squares, plain_squares

_BATCH = 16  # frames that are encoded at once; changes the speed, not the result
_LEAST_DEVIATION = 1e-6  # of a channel that says nothing; keeps the normalised latent finite


@dataclass(frozen=True, slots=True, eq=False)
class ImageLesson:
    """Frames to learn from, and frames of other patients to be judged by."""

    train: Squares
    val: Squares


@dataclass(frozen=True, slots=True, eq=False)
class TrainedAutoencoder:
    """An autoencoder with what turns its latent into one of mean 0 and deviation 1.

    Args:
        network: the weights of the best validation are in it; on the device of the training.
        latent_shift, latent_scale: of each channel, normalised = (latent - shift) / scale; from the
            training frames' cells in the sector, or what the network fixes.
        metrics: ``val_psnr_db``, ``val_ssim``, ``val_texture``.
        course: of the training; empty for a network without weights.
    """

    network: nn.Module
    latent_shift: tuple[float, ...]
    latent_scale: tuple[float, ...]
    metrics: dict[str, float]
    course: Course


def train_autoencoder(
    lesson: ImageLesson,
    settings: AutoencoderSettings,
    checkpoint: Checkpoint,
    report: Callable[[Step], None],
    *,
    seed: int,
    device: str,
) -> TrainedAutoencoder:
    """Train until the steps or the seconds are spent; after a kill the same call goes on.

    Without a limit in seconds the result is then the same bit for bit.

    Args:
        lesson: frames.
        settings: of the training.
        checkpoint: in a folder whose name stands for lesson, settings and seed.
        report: told after each step.
        seed: of weights, order and draws.
        device: where the network learns.

    Raises:
        EchoFedError: NAME_UNKNOWN, CONFIG_INVALID, FRAMES_MISSING, SHAPE_MISMATCH for squares that
            the network cannot halve, FEATURES_NOT_FINITE, DISK_FULL, CHECKPOINT_CORRUPT.
    """
    for name, part in (("train", lesson.train), ("val", lesson.val)):
        if not len(part):
            raise EchoFedError(
                Code.FRAMES_MISSING,
                f"the autoencoder has no frame in the {name} split",
                "add patients, or raise ingest.val_fraction and ingest again",
            )
    network = draw_autoencoder(settings.network, settings.options, seed=seed).to(device)
    judge, course = AutoencoderJudge(lesson.val, device), Course()
    if any(True for _ in network.parameters()):
        objective = Objective(_batches(lesson.train, settings, seed, device), _loss, judge)
        course = train(network, objective, _plan(settings, seed), checkpoint, report)
    shift, scale = latent_statistics(network, lesson.train, device)
    return TrainedAutoencoder(network, shift, scale, judge(network).details, course)


@torch.inference_mode()
def latent_statistics(
    network: nn.Module, squares: Squares, device: str
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel over the cells in the sector, in float64.

    Returns:
        Shift and scale of the normalised latent; what the network fixes, if it does.
    """
    autoencoder = as_autoencoder(network.eval())
    if autoencoder.fixed_normalisation is not None:
        shift, scale = autoencoder.fixed_normalisation
        return (shift,) * autoencoder.latent_channels, (scale,) * autoencoder.latent_channels
    num = torch.zeros((), dtype=torch.float64, device=device)
    first_C = torch.zeros(autoencoder.latent_channels, dtype=torch.float64, device=device)
    second_C = torch.zeros_like(first_C)
    for images, sectors in plain_squares(squares, _BATCH, device):
        latent_NCHW = autoencoder.encode(images, sectors).double()
        num += sector_cells(sectors, autoencoder.factor).sum()
        first_C += latent_NCHW.sum((0, 2, 3))
        second_C += latent_NCHW.square().sum((0, 2, 3))
    mean_C = first_C / num.clamp(min=1)
    deviation_C = (second_C / num.clamp(min=1) - mean_C.square()).clamp(min=0).sqrt()
    scale_C = deviation_C.clamp(min=_LEAST_DEVIATION)
    return tuple(mean_C.tolist()), tuple(scale_C.tolist())


def _batches(
    squares: Squares, settings: AutoencoderSettings, seed: int, device: str
) -> Callable[[int], Iterator[SquareBatch]]:
    material = SquareMaterial(
        squares,
        batch_size=settings.batch_size,
        num_batches=_epochs(settings)[1],
        seed=seed,
        device=device,
    )
    return partial(material.batches, flip_probability=settings.flip_probability)


def _plan(settings: AutoencoderSettings, seed: int) -> Plan:
    epochs, num_batches = _epochs(settings)
    return Plan(
        epochs=epochs,
        num_batches=num_batches,
        patience=epochs,
        learning_rate=settings.learning_rate,
        schedule="cosine",
        seed=seed,
        seconds=settings.seconds or math.inf,
    )


def _epochs(settings: AutoencoderSettings) -> tuple[int, int]:
    """Validations, and steps between them: together no more steps than are allowed."""
    epochs = math.ceil(settings.steps / settings.check_every)
    return epochs, settings.steps // epochs


def _loss(model: nn.Module, batch: SquareBatch) -> Tensor:
    terms = as_autoencoder(model).loss_terms(batch.images_N1SS, batch.sector_N1SS, batch.generator)
    return torch.stack(list(terms.values())).sum()
