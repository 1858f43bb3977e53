"""Train one synthesizer on a site's own annotated frames: settings in, card and weights out."""

import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shared.diffusion import PRECONDITIONS, SCHEDULES, SOLVERS
from shared.diffusion.precondition import denoised
from shared.diffusion.sample import sample
from shared.echo.manifest import DatasetManifest
from shared.echo.origin import mixed_origin
from shared.echo.synthesizer import (
    Sampler,
    SynthesizerCard,
    load_synthesizer_files,
    save_synthesizer,
)
from shared.errors import Code, EchoFedError
from shared.files import sha256_hex
from shared.models.autoencoder import as_autoencoder, draw_autoencoder, sector_cells
from shared.models.backbone import load_weights, pack_tensors, unpack_tensors
from shared.models.drawn import draw_denoiser
from shared.settings import dump_settings, flatten, hash_settings
from shared.synthesis.release import embedded, fit_threshold
from site_client.annotated import LEARNT_SPLITS, AnnotatedFrames, Wanted, load_annotated
from site_client.augment.warp import WarpReach
from site_client.settings import AutoencoderSettings, SynthesizerSettings
from site_client.store import SiteStore
from site_client.training.autoencoding import Autoencoding
from site_client.training.checkpoint import Checkpoint, prefixed, run_name, under
from site_client.training.denoising import Denoising, DenoisingPlan, Encode, save_sheet
from site_client.training.embedding import EmbeddingPlan, PatientFrames, train_embedding
from site_client.training.expert import numeric_threads
from site_client.training.loop import Step
from site_client.training.strides import (
    Stride,
    StrideCheckpoint,
    StrideCourse,
    StridePlan,
    train_by_steps,
)
from site_client.training.synthesis_batches import (
    DrawnBatch,
    DrawnMaterial,
    labelled,
    structures_of,
)

_HASH_LETTERS = 8
_PICTURES = "pictures"
_PICTURE_STEPS = 20  # at most, whatever the sampler takes
_ENCODED = 16  # frames encoded at once; changes the speed, not the result
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


def train_synthesizer(
    store: SiteStore,
    datasets: Sequence[str],
    settings: SynthesizerSettings,
    *,
    site: str,
    now: datetime,
    report: Callable[[Stride], None],
) -> SynthesizerCard:
    """Train a synthesizer on one dataset of the site, or on several pooled, and store it.

    First the autoencoder, then the denoiser of its latents, then the gate of what is released. A
    run that was killed goes on where it stood when the same call is made again.

    Args:
        store: the site's.
        datasets: ids, at least one.
        settings: of the training.
        site: site code.
        now: time that the card is dated with.
        report: told after each step.

    Raises:
        EchoFedError: DATASET_UNKNOWN, NAME_UNKNOWN, CONFIG_INVALID, FRAMES_MISSING, MODEL_UNKNOWN,
            TOO_FEW_PATIENTS, SHAPE_MISMATCH, FEATURES_NOT_FINITE, DISK_FULL, CHECKPOINT_CORRUPT.
    """
    cpu_began = time.process_time()
    manifests = [store.manifest(name) for name in datasets]
    donor = _donor(store, settings)
    first = donor[0].weights_sha256 if donor else ""
    folder = store.root / "runs" / run_name("synthesize", settings, manifests, first)
    with numeric_threads(settings.threads):
        lesson = prepare_lesson(store, datasets, settings)
        autoencoder, figures = _autoencoder(lesson, settings, donor, folder, report)
        draft = _draft(manifests, lesson, settings, autoencoder, site=site, now=now)
        if donor is not None:
            draft = _with_parent(draft, donor[0])
        network, course = _denoiser(draft, lesson, settings, autoencoder, folder, report)
        gate = _gate(lesson, settings, folder, report)
    weights = pack_tensors(
        prefixed("denoiser.", _on_cpu(network))
        | prefixed("autoencoder.", _on_cpu(autoencoder))
        | gate.tensors
    )
    sha256 = sha256_hex(weights)
    card = replace(
        draft,
        id=f"{site}-{settings.network}-{sha256[:_HASH_LETTERS]}",
        weights_sha256=sha256,
        release_threshold=gate.threshold,
        metrics={
            **figures, **gate.figures, **_figures(lesson, course),
            "cpu_seconds": time.process_time() - cpu_began,
        },
    )  # fmt: skip
    save_synthesizer(store.synthesizer_folder(card.id), card, weights)
    _keep_pictures(folder, store.synthesizer_folder(card.id))
    return card


def prepare_lesson(
    store: SiteStore, datasets: Sequence[str], settings: SynthesizerSettings
) -> SynthesisLesson:
    """Read the annotated frames of the training and validation patients.

    Raises:
        EchoFedError: as ``load_annotated`` and ``labelled``; FRAMES_MISSING for a split without
            frames.
    """
    wanted = Wanted(
        settings.image_size,
        settings.structures,
        settings.views,
        settings.frames_per_clip,
        splits=LEARNT_SPLITS,
    )
    frames = load_annotated(store, datasets, wanted)
    train, val = frames.of_split("train"), frames.of_split("val")
    for name, part in (("train", train), ("val", val)):
        if not len(part):
            raise EchoFedError(
                Code.FRAMES_MISSING,
                f"{', '.join(datasets)} has no annotated frame in the {name} split",
                "add patients, or raise ingest.val_fraction and ingest again",
            )
    drawn, num_patients = labelled(train, settings.num_labelled, seed=settings.seed)
    return SynthesisLesson(train, drawn, labelled(val, 0, seed=settings.seed)[0], num_patients)


def normalisation(
    autoencoder: nn.Module, material: DrawnMaterial, sigma_data: float
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Shift and scale of each channel that give the latent inside the sector mean 0, and deviation.

    Args:
        autoencoder: one that fixes its own normalisation gets that.
        material: the frames, taken as they are; float64 sums.
        sigma_data: the deviation.
    """
    doors = as_autoencoder(autoencoder)
    if doors.fixed_normalisation is not None:
        shift, scale = doors.fixed_normalisation
        return (shift,) * doors.latent_channels, (scale,) * doors.latent_channels
    sums_3C = torch.zeros(3, doors.latent_channels, dtype=torch.float64)
    for begin in range(0, len(material), _ENCODED):
        batch = material.plain(range(begin, min(begin + _ENCODED, len(material))))
        with torch.no_grad():
            latent = doors.encode(batch.images_N1SS, batch.sector_N1SS).double()
        inside = sector_cells(batch.sector_N1SS, doors.factor).double()
        moments = [latent**power * inside for power in range(3)]
        sums_3C += torch.stack([moment.sum((0, 2, 3)).cpu() for moment in moments])
    mean_C, square_C = sums_3C[1] / sums_3C[0], sums_3C[2] / sums_3C[0]
    deviation_C = (square_C - mean_C**2).clamp(min=1e-12).sqrt()
    return tuple(mean_C.tolist()), tuple((deviation_C / sigma_data).tolist())


def _donor(store: SiteStore, settings: SynthesizerSettings) -> Donor | None:
    """The synthesizer whose autoencoder is taken, if one is named."""
    if not settings.autoencoder_from:
        return None
    card, weights = load_synthesizer_files(store.require_synthesizer(settings.autoencoder_from))
    if card.autoencoder != settings.autoencoder.network:
        raise EchoFedError(
            Code.CONFIG_INVALID,
            f"synthesizer {card.id} has autoencoder {card.autoencoder!r}, "
            f"not {settings.autoencoder.network!r}",
            "name that in synthesizer.autoencoder.network, or take another synthesizer",
        )
    return card, weights


def _autoencoder(
    lesson: SynthesisLesson,
    settings: SynthesizerSettings,
    donor: Donor | None,
    folder: Path,
    report: Callable[[Stride], None],
) -> tuple[nn.Module, dict[str, float]]:
    """The finished autoencoder, frozen: the donor's, or one that is trained here."""
    chosen = settings.autoencoder
    options = donor[0].autoencoder_options if donor else chosen.options
    network = draw_autoencoder(chosen.network, options, seed=settings.seed)
    figures: dict[str, float] = {}
    if donor is not None:
        load_weights(network, under("autoencoder.", unpack_tensors(donor[1])))
    network = network.to(settings.device, memory_format=torch.channels_last)
    if donor is None and any(True for _ in network.parameters()):
        val = _material(lesson.val, settings)
        train = _material(lesson.train, settings, chosen.batch_size)
        task = Autoencoding(train, val, seed=settings.seed)
        plan = _plan("autoencoder", chosen, settings)
        checkpoint = StrideCheckpoint(folder / "autoencoder")
        network, course = train_by_steps(network, task, plan, checkpoint, report)
        figures = {
            "autoencoder_error": course.history[-1][1],
            "autoencoder_seconds": course.seconds,
            "autoencoder_steps": float(course.step),
        }
    return network.eval().requires_grad_(False), figures


def _draft(
    manifests: Sequence[DatasetManifest],
    lesson: SynthesisLesson,
    settings: SynthesizerSettings,
    autoencoder: nn.Module,
    *,
    site: str,
    now: datetime,
) -> SynthesizerCard:
    """The card before there are weights: all that drawing pictures needs."""
    material = _material(lesson.train, settings)
    shift, scale = normalisation(autoencoder, material, settings.sigma_data)
    return SynthesizerCard(
        id="",
        site=site,
        datasets=tuple(manifest.id for manifest in manifests),
        dataset_hashes=tuple(manifest.content_hash() for manifest in manifests),
        origin=mixed_origin(manifest.origin for manifest in manifests),
        network=settings.network,
        options=dict(settings.options),
        autoencoder=settings.autoencoder.network,
        autoencoder_options=dict(settings.autoencoder.options),
        precondition=settings.precondition,
        sigma_data=settings.sigma_data,
        latent_shift=shift,
        latent_scale=scale,
        sampler=Sampler(**settings.sampler.model_dump()),
        image_size=settings.image_size,
        structures=structures_of(lesson.drawn),
        views=lesson.drawn.views,
        embedding=EmbeddingPlan().embedding,
        embedding_options={},
        release_threshold=math.nan,
        weights_sha256="",
        parent="",
        seed=settings.seed,
        settings_hash=hash_settings(settings),
        settings=flatten(dump_settings(settings)),
        metrics={},
        created=now.isoformat(timespec="seconds"),
    )


def _with_parent(card: SynthesizerCard, parent: SynthesizerCard) -> SynthesizerCard:
    """The card with what the autoencoder had seen: without its consent, nothing may leave."""
    seen = dict(zip(parent.datasets, parent.dataset_hashes, strict=True))
    inherited = {
        name: content
        for name, content in seen.items()
        if parent.site == card.site and name not in card.datasets
    }
    return replace(
        card,
        parent=parent.id,
        datasets=(*card.datasets, *inherited),
        dataset_hashes=(*card.dataset_hashes, *inherited.values()),
        origin=mixed_origin((card.origin, parent.origin)),
    )


def _denoiser(
    draft: SynthesizerCard,
    lesson: SynthesisLesson,
    settings: SynthesizerSettings,
    autoencoder: nn.Module,
    folder: Path,
    report: Callable[[Stride], None],
) -> tuple[nn.Module, StrideCourse]:
    """Train the denoiser of an autoencoder's latents."""
    channels = as_autoencoder(autoencoder).latent_channels
    sizes = (channels, len(draft.structures), len(draft.views))
    network = draw_denoiser(settings.network, sizes, settings.options, seed=settings.seed)
    network = network.to(settings.device, memory_format=torch.channels_last)

    def picture(average: nn.Module, batch: DrawnBatch, step: int) -> None:
        drawn_NSS = _drawn(draft, average, autoencoder, batch)
        save_sheet(folder / _PICTURES / f"step-{step:06}.png", batch, drawn_NSS)

    task = Denoising(
        _material(lesson.drawn, settings),
        _material(lesson.val, settings),
        DenoisingPlan(
            num_structures=len(draft.structures),
            num_views=len(draft.views),
            label_dropout=settings.label_dropout,
            is_half=settings.precision == "bfloat16",
            seed=settings.seed,
        ),
        precondition=PRECONDITIONS[settings.precondition](settings.sigma_data),
        encode=_encode(autoencoder, draft),
        picture=picture,
    )
    plan = _plan("denoiser", settings, settings)
    return train_by_steps(network, task, plan, StrideCheckpoint(folder / "denoiser"), report)


def _plan(
    stage: str, pace: SynthesizerSettings | AutoencoderSettings, settings: SynthesizerSettings
) -> StridePlan:
    return StridePlan(
        stage=stage,
        steps=pace.steps,
        seconds=pace.seconds,
        batch_size=pace.batch_size,
        learning_rate=pace.learning_rate,
        warm_up=pace.warm_up,
        half_life=pace.half_life,
        check_every=settings.check_every,
        seed=settings.seed,
    )


def _material(
    frames: AnnotatedFrames, settings: SynthesizerSettings, batch_size: int = 0
) -> DrawnMaterial:
    """The frames with the settings' reach; without shading, since grey values are what is learnt."""
    reach = WarpReach(settings.rotation_deg, settings.zoom, settings.shift, 0.0, 0.0)
    size, device = batch_size or settings.batch_size, settings.device
    return DrawnMaterial(frames, reach, size, seed=settings.seed, device=device)


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


def _drawn(
    card: SynthesizerCard, denoiser: nn.Module, autoencoder: nn.Module, batch: DrawnBatch
) -> NDArray[np.uint8]:
    """What the networks draw from the maps of a batch, the same noise every time, (N, S, S)."""
    doors, device = as_autoencoder(autoencoder), batch.labels_NSS.device
    side = card.image_size // doors.factor
    maps_NLSS = batch.maps(len(card.structures))
    wrapping = PRECONDITIONS[card.precondition](card.sigma_data)

    def ask(x_NCHW: Tensor, noise_N: Tensor) -> Tensor:
        answer: Tensor = denoiser(x_NCHW, noise_N, maps_NLSS, batch.view_N)
        return answer

    def denoise(x_NCHW: Tensor, sigma: Tensor) -> Tensor:
        sigma_N = sigma.expand(len(x_NCHW)).to(device)
        return denoised(ask, wrapping, x_NCHW.to(device), sigma_N).cpu()

    sampler = card.sampler
    steps = min(sampler.steps, _PICTURE_STEPS)
    latent_NCHW = sample(
        denoise,
        (doors.latent_channels, side, side),
        sigmas_S=SCHEDULES[sampler.schedule](steps, sampler.sigma_min, sampler.sigma_max),
        solver=SOLVERS[sampler.solver],
        seeds_N=range(len(maps_NLSS)),
    )
    shift_C11, scale_C11 = (
        torch.tensor(values)[:, None, None] for values in (card.latent_shift, card.latent_scale)
    )
    latent_NCHW = (latent_NCHW * scale_C11 + shift_C11).to(device)
    image_N1SS = doors.decode(latent_NCHW, batch.sector_N1SS)
    out: NDArray[np.uint8] = (image_N1SS[:, 0] * 255).round().byte().cpu().numpy()
    return out


@dataclass(frozen=True, slots=True, eq=False)
class _Gate:
    """What holds back drawn images that are too near to a training frame."""

    tensors: dict[str, Tensor]
    threshold: float
    figures: dict[str, float]


def _gate(
    lesson: SynthesisLesson,
    settings: SynthesizerSettings,
    folder: Path,
    report: Callable[[Stride], None],
) -> _Gate:
    """Train the embedding on the training patients, and set its threshold by the others."""
    train, val = (
        PatientFrames(part.pixels_NSS * part.sector_NSS, part.patient_N)
        for part in (lesson.train, lesson.val)
    )
    plan = EmbeddingPlan(epochs=settings.embedding_epochs, seed=settings.seed)

    def passed_on(step: Step) -> None:
        report(Stride("embedding", step.done, step.done / step.total, step.loss, step.best))

    checkpoint = Checkpoint(folder / "embedding")
    network, course = train_embedding(train, val, plan, checkpoint, passed_on)
    network = network.eval()
    gallery_GD = embedded(network, train.pixels_NSS)
    threshold = fit_threshold(embedded(network, val.pixels_NSS), gallery_GD)
    tensors = prefixed("embedding.", _on_cpu(network)) | {"gallery.features_GD": gallery_GD}
    assert course.best_score is not None
    return _Gate(tensors, threshold, {"embedding_auc": course.best_score})


def _figures(lesson: SynthesisLesson, course: StrideCourse) -> dict[str, float]:
    return {
        "val_loss": course.history[-1][1],
        "steps": float(course.step),
        "seconds": course.seconds,
        "train_frames": float(len(lesson.drawn)),
        "labelled_patients": float(lesson.num_patients),
    }


def _on_cpu(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.cpu() for name, value in network.state_dict().items()}


def _keep_pictures(run: Path, folder: Path) -> None:
    """Pictures go where the synthesizer is, so that they go when it goes; the run is forgotten."""
    if (run / _PICTURES).is_dir():
        shutil.copytree(run / _PICTURES, folder / _PICTURES, dirs_exist_ok=True)
    shutil.rmtree(run, ignore_errors=True)
