"""The stages of a synthesizer: its autoencoder, its denoiser, and the gate of what it draws."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shared.diffusion.bands import wrapping
from shared.echo.synthesizer import Option, SynthesizerCard
from shared.models.autoencoder import as_autoencoder, draw_autoencoder
from shared.models.backbone import load_weights, unpack_tensors
from shared.models.drawn import draw_denoiser
from shared.synthesis.draw import Parts, decode_latents, draw_latents
from shared.synthesis.release import embedded, fit_threshold
from site_client.annotated import AnnotatedFrames
from site_client.augment.warp import WarpReach
from site_client.settings import SynthesizerSettings
from site_client.training.autoencoder import ImageLesson, train_autoencoder
from site_client.training.checkpoint import Checkpoint, prefixed, under
from site_client.training.denoising import Denoising, DenoisingPlan, Encode, save_sheet
from site_client.training.embedding import EmbeddingPlan, PatientFrames, train_embedding
from site_client.training.loop import Step
from site_client.training.squares import Squares
from site_client.training.strides import (
    Stride,
    StrideCheckpoint,
    StrideCourse,
    StridePlan,
    train_by_steps,
)
from site_client.training.synthesis_batches import DrawnBatch, DrawnMaterial

PICTURES = "pictures"
"""Folder of the pictures of a run."""
_PICTURE_STEPS = 20  # at most, whatever the sampler takes
Report = Callable[[Stride], None]
Donor = tuple[SynthesizerCard, bytes]


@dataclass(frozen=True, slots=True, eq=False)
class SynthesisLesson:
    """Which frames teach what.

    Args:
        train: all training frames; the autoencoder sees them without their labels.
        drawn: those whose label maps are used.
        val: validation frames with whole label maps.
        num_patients: of ``drawn``.
    """

    train: AnnotatedFrames
    drawn: AnnotatedFrames
    val: AnnotatedFrames
    num_patients: int


@dataclass(frozen=True, slots=True, eq=False)
class Latents:
    """A finished autoencoder, and what makes its latent a normalised one.

    Args:
        network: frozen, in evaluation mode.
        options: what it was built with.
        shift, scale: of each channel, normalised = (latent - shift) / scale.
        deviations: of each channel once normalised.
        figures: of its training, by name.
    """

    network: nn.Module
    options: dict[str, Option]
    shift: tuple[float, ...]
    scale: tuple[float, ...]
    deviations: tuple[float, ...]
    figures: dict[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class Gate:
    """What holds back drawn images that are too near to a training frame.

    Args:
        tensors: embedding and gallery, by their names in the synthesizer's weights.
        threshold: similarity above which an image is held back.
        figures: of its training, by name.
    """

    tensors: dict[str, Tensor]
    threshold: float
    figures: dict[str, float]


def train_latents(
    lesson: SynthesisLesson, settings: SynthesizerSettings, folder: Path, report: Report
) -> Latents:
    """Train the autoencoder on the frames of all training patients.

    What it does not fix itself is normalised to mean 0 and, over all channels, to a root mean
    square of ``sigma_data``; how even the channels are among each other is a setting.
    """
    chosen = settings.autoencoder
    trained = train_autoencoder(
        ImageLesson(_squares(lesson.train), _squares(lesson.val)),
        chosen,
        Checkpoint(folder / "autoencoder"),
        _told("autoencoder", report),
        seed=settings.seed,
        device=settings.device,
    )
    network = trained.network.eval().requires_grad_(False)
    scale, deviations = trained.latent_scale, (settings.sigma_data,) * len(trained.latent_scale)
    if as_autoencoder(network).fixed_normalisation is None:
        scale, deviations = evened(scale, settings.evenness, settings.sigma_data)
    figures = {f"autoencoder_{name}": value for name, value in trained.metrics.items()}
    return Latents(
        network,
        dict(chosen.options),
        trained.latent_shift,
        scale,
        deviations,
        figures | {"autoencoder_seconds": trained.course.seconds},
    )


def taken_latents(donor: Donor, settings: SynthesizerSettings) -> Latents:
    """The autoencoder of another synthesizer as it is."""
    card, weights = donor
    network = draw_autoencoder(card.autoencoder, card.autoencoder_options, seed=card.seed)
    load_weights(network, under("autoencoder.", unpack_tensors(weights)))
    network = network.to(settings.device).eval().requires_grad_(False)
    scale, deviations = card.latent_scale, card.sigma_data
    if as_autoencoder(network).fixed_normalisation is None:
        raw = tuple(one * own for one, own in zip(scale, deviations, strict=True))
        scale, deviations = evened(raw, settings.evenness, settings.sigma_data)
    return Latents(
        network, card.autoencoder_options, card.latent_shift, scale, deviations, figures={}
    )


def evened(
    raw: tuple[float, ...], evenness: float, sigma_data: float
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Scale of each channel, and its deviation once divided by it.

    Args:
        raw: deviation of each channel as it is.
        evenness: power of it that the scale takes.
        sigma_data: root of the mean square of what is left.
    """
    left = [one ** (1.0 - evenness) for one in raw]
    unit = math.sqrt(sum(one**2 for one in left) / len(left)) / sigma_data
    deviations = tuple(one / unit for one in left)
    return tuple(one / own for one, own in zip(raw, deviations, strict=True)), deviations


def train_denoiser(
    draft: SynthesizerCard,
    lesson: SynthesisLesson,
    settings: SynthesizerSettings,
    autoencoder: nn.Module,
    folder: Path,
    report: Report,
) -> tuple[nn.Module, StrideCourse]:
    """Train the denoiser of an autoencoder's latents; what draws is the average of its weights."""
    channels = as_autoencoder(autoencoder).latent_channels
    sizes = (channels, len(draft.structures), len(draft.views))
    network = draw_denoiser(settings.network, sizes, settings.options, seed=settings.seed)
    network = network.to(settings.device).to(memory_format=torch.channels_last)

    precondition = wrapping(settings.precondition, draft.sigma_data)

    def picture(average: nn.Module, batch: DrawnBatch, step: int) -> None:
        parts = Parts(average, as_autoencoder(autoencoder), precondition)
        save_sheet(folder / PICTURES / f"step-{step:06}.png", batch, _pictures(draft, parts, batch))

    task = Denoising(
        _material(lesson.drawn, settings),
        _material(lesson.val, settings),
        DenoisingPlan(
            num_structures=len(draft.structures),
            num_views=len(draft.views),
            label_dropout=settings.label_dropout,
            is_half=settings.precision == "bfloat16",
            inside_only=settings.inside_only,
            seed=settings.seed,
        ),
        precondition=precondition,
        encode=_encode(autoencoder, draft),
        picture=picture,
    )
    plan = _plan(settings)
    return train_by_steps(network, task, plan, StrideCheckpoint(folder / "denoiser"), report)


def train_gate(
    lesson: SynthesisLesson,
    settings: SynthesizerSettings,
    folder: Path,
    report: Report,
) -> Gate:
    """Train the embedding on the training patients, and set its threshold by the others."""
    train, val = (
        PatientFrames(part.pixels_NSS * part.sector_NSS, part.patient_N)
        for part in (lesson.train, lesson.val)
    )
    epochs = math.ceil(settings.embedding_steps / EmbeddingPlan().num_batches)
    num_batches = settings.embedding_steps // epochs
    plan = EmbeddingPlan(epochs=epochs, num_batches=num_batches, seed=settings.seed)
    checkpoint = Checkpoint(folder / "embedding")
    network, course = train_embedding(train, val, plan, checkpoint, _told("embedding", report))
    network = network.eval()
    gallery_GD = embedded(network, train.pixels_NSS)
    threshold = fit_threshold(embedded(network, val.pixels_NSS), gallery_GD)
    tensors = prefixed("embedding.", network.state_dict()) | {"gallery.features_GD": gallery_GD}
    assert course.best_score is not None
    return Gate(tensors, threshold, {"embedding_auc": course.best_score})


def _plan(settings: SynthesizerSettings) -> StridePlan:
    return StridePlan(
        stage="denoiser",
        steps=settings.steps,
        seconds=settings.seconds,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        warm_up=settings.warm_up,
        half_life=settings.half_life,
        check_every=settings.check_every,
        seed=settings.seed,
    )


def _material(frames: AnnotatedFrames, settings: SynthesizerSettings) -> DrawnMaterial:
    """The frames with the settings' reach; not shaded, since grey values are what is learnt."""
    reach = WarpReach(settings.rotation_deg, settings.zoom, settings.shift, 0.0, 0.0)
    return DrawnMaterial(
        frames, reach, settings.batch_size, seed=settings.seed, device=settings.device
    )


def _squares(frames: AnnotatedFrames) -> Squares:
    return Squares(frames.pixels_NSS, frames.sector_NSS)


def _told(stage: str, report: Report) -> Callable[[Step], None]:
    """The report of a loop by epochs as one by steps."""

    def told(step: Step) -> None:
        report(Stride(stage, step.done, step.done / step.total, step.loss, step.best))

    return told


def _encode(autoencoder: nn.Module, card: SynthesizerCard) -> Encode:
    doors = as_autoencoder(autoencoder)
    device = next((value.device for value in autoencoder.state_dict().values()), None)
    shift_C11, scale_C11 = (
        torch.tensor(values, device=device)[:, None, None]
        for values in (card.latent_shift, card.latent_scale)
    )

    def encode(images_N1SS: Tensor, sector_N1SS: Tensor) -> Tensor:
        return (doors.encode(images_N1SS, sector_N1SS) - shift_C11.to(images_N1SS)) / scale_C11.to(
            images_N1SS
        )

    return encode


def _pictures(card: SynthesizerCard, parts: Parts, batch: DrawnBatch) -> NDArray[np.uint8]:
    """What the networks draw from the maps of a batch, the same noise every time, (N, S, S)."""
    maps_NLSS = batch.maps(len(card.structures))
    sampler = replace(card.sampler, steps=min(card.sampler.steps, _PICTURE_STEPS))
    latent_NCHW = draw_latents(
        card, parts, maps_NLSS, batch.view_N, sampler=sampler, seeds_N=range(len(maps_NLSS))
    )
    image_N1SS = decode_latents(card, parts, latent_NCHW, maps_NLSS)
    out: NDArray[np.uint8] = (image_N1SS[:, 0] * 255).round().byte().cpu().numpy()
    return out
