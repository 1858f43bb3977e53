"""Train one synthesizer on a site's own annotated frames: settings in, card and weights out."""

import math
import shutil
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from torch import Tensor, nn

from shared.echo.manifest import DatasetManifest, require_patients_apart
from shared.echo.origin import mixed_origin
from shared.echo.synthesizer import (
    FEWEST_PATIENTS,
    Sampler,
    SynthesizerCard,
    load_synthesizer_files,
    save_synthesizer,
)
from shared.errors import Code, EchoFedError
from shared.files import sha256_hex
from shared.models.backbone import pack_tensors
from shared.settings import dump_settings, flatten, hash_settings
from shared.synthesis.semantic import expect_sampler
from site_client.annotated import LEARNT_SPLITS, Wanted, load_annotated
from site_client.settings import SynthesizerSettings
from site_client.store import PICTURES, SiteStore
from site_client.training.checkpoint import prefixed, run_name
from site_client.training.embedding import EmbeddingPlan, expect_patients
from site_client.training.expert import numeric_threads
from site_client.training.parent import with_parent
from site_client.training.strides import Stride, StrideCourse
from site_client.training.synthesis_batches import fewest_patients, labelled, structures_of
from site_client.training.synthesizer_stages import (
    Donor,
    Latents,
    SynthesisLesson,
    taken_latents,
    train_denoiser,
    train_gate,
    train_latents,
)

_HASH_LETTERS = 8


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
            TOO_FEW_PATIENTS, SHAPE_MISMATCH, FEATURES_NOT_FINITE, DISK_FULL, CHECKPOINT_CORRUPT,
            PATIENT_IN_TWO_SPLITS where the autoencoder that is taken has learnt from a patient whom
            these datasets keep for another split.
    """
    cpu_began = time.process_time()
    expect_sampler(Sampler(**settings.sampler.model_dump()))
    manifests = [store.manifest(name) for name in datasets]
    donor = _donor(store, settings)
    if donor is not None and donor[0].site == site:
        _expect_patients_apart(store, {*datasets, *donor[0].datasets})
    first = donor[0].weights_sha256 if donor else ""
    folder = store.root / "runs" / run_name("synthesize", settings, manifests, first)
    with numeric_threads(settings.threads):
        lesson = prepare_lesson(store, datasets, settings)
        if donor is None:
            latents = train_latents(lesson, settings, folder, report)
        else:
            latents = taken_latents(donor, settings)
        draft = _draft(manifests, lesson, settings, latents, site=site, now=now)
        if donor is not None:
            draft = with_parent(draft, donor[0])
        denoiser, course = train_denoiser(draft, lesson, settings, latents.network, folder, report)
        gate = train_gate(lesson, settings, folder, report)
    weights = pack_tensors(
        prefixed("denoiser.", _on_cpu(denoiser))
        | prefixed("autoencoder.", _on_cpu(latents.network))
        | gate.tensors
    )
    sha256 = sha256_hex(weights)
    card = replace(
        draft,
        id=f"{site}-{settings.network}-{sha256[:_HASH_LETTERS]}",
        weights_sha256=sha256,
        release_threshold=gate.threshold,
        metrics={
            **latents.figures, **gate.figures, **_figures(lesson, course),
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
        EchoFedError: as ``load_annotated``, ``labelled`` and ``expect_patients``; FRAMES_MISSING
            for a split without frames.
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
    expect_patients(train.patient_N, val.patient_N)  # the gate's training would, hours later
    drawn, num_patients = labelled(train, settings.num_labelled, seed=settings.seed)
    return SynthesisLesson(train, drawn, labelled(val, 0, seed=settings.seed)[0], num_patients)


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


def _expect_patients_apart(store: SiteStore, datasets: Collection[str]) -> None:
    """Datasets of both trainings that are still here; what is gone cannot be looked through."""
    here = store.datasets()
    manifests = [store.manifest(name) for name in sorted(datasets) if name in here]
    require_patients_apart(clip for manifest in manifests for clip in manifest.clips)


def _draft(
    manifests: Sequence[DatasetManifest],
    lesson: SynthesisLesson,
    settings: SynthesizerSettings,
    latents: Latents,
    *,
    site: str,
    now: datetime,
) -> SynthesizerCard:
    """The card before there are weights: all that drawing pictures needs."""
    return SynthesizerCard(
        id="",
        site=site,
        datasets=tuple(manifest.id for manifest in manifests),
        dataset_hashes=tuple(manifest.content_hash() for manifest in manifests),
        origin=mixed_origin(manifest.origin for manifest in manifests),
        network=settings.network,
        options=dict(settings.options),
        autoencoder=settings.autoencoder.network,
        autoencoder_options=latents.options,
        precondition=settings.precondition,
        sigma_data=latents.deviations,
        latent_shift=latents.shift,
        latent_scale=latents.scale,
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


def _figures(lesson: SynthesisLesson, course: StrideCourse) -> dict[str, float]:
    return {
        "val_loss": course.history[-1][1],
        "steps": float(course.step),
        "seconds": course.seconds,
        "train_frames": float(len(lesson.drawn)),
        "labelled_patients": float(lesson.num_patients),
        FEWEST_PATIENTS: float(fewest_patients(lesson.drawn)),
    }


def _on_cpu(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.cpu() for name, value in network.state_dict().items()}


def _keep_pictures(run: Path, folder: Path) -> None:
    """Pictures go where the synthesizer is, so that they go when it goes; the run is forgotten."""
    if (run / PICTURES).is_dir():
        shutil.copytree(run / PICTURES, folder / PICTURES, dirs_exist_ok=True)
    shutil.rmtree(run, ignore_errors=True)
