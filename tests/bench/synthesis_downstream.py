"""The judge of usefulness: one segmenter, taught by some frames, tried on real test patients.

All segmenters have the same network, first weights, augmentation and number of optimiser steps.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import numpy as np
from measure_segmentation import Case, mask_figures
from numpy.typing import NDArray
from synthesis_protocol import Protocol, keep, kept

from shared.echo.segmenter import SegmenterCard, load_segmenter_files, save_segmenter
from shared.models.backbone import pack_tensors
from shared.segmentation.segmenter import Segmenter, build_forward
from shared.settings import build_settings
from site_client.augment.warp import WarpReach
from site_client.settings import SegmenterSettings
from site_client.training.annotated_batches import AnnotatedBatch, AnnotatedMaterial
from site_client.training.checkpoint import Checkpoint
from site_client.training.loop import Objective, Plan, Step, train
from site_client.training.segmenter import Lesson, first_network, judge_of, segmenter_card
from site_client.training.segmenter_judges import mask_batch_loss

NETWORK = {"width": 16, "depth": 4, "patch": 2, "batch_size": 4}
CHECKS = 10  # validations of a training
DRAWS = 2000  # of the bootstrap over patients
DiceOfPatients = dict[str, dict[str, float]]
"""Structure -> patient -> mean Dice over the patient's frames."""


def tried(
    name: str, protocol: Protocol, lesson: Lesson, report: Callable[[Step], None]
) -> DiceOfPatients:
    """Dice on the real test patients of a segmenter that learnt the lesson; kept under a name."""
    folder = protocol.folder / "segmenters" / name
    told = kept(folder / "dice.json")
    if told is None:
        if not (folder / "card.json").is_file():
            save_segmenter(folder, *_taught(folder, protocol, lesson, report))
        told = {**dice_of_patients(*load_segmenter_files(folder), protocol.cases)}
        keep(folder / "dice.json", told)
    return told  # type: ignore[return-value]


def segmenter_settings(protocol: Protocol) -> SegmenterSettings:
    """Of every segmenter in the comparison."""
    tree = {**NETWORK, "image_size": protocol.asked.size, "seed": protocol.asked.seed}
    return build_settings(SegmenterSettings, tree)


def _taught(
    folder: Path, protocol: Protocol, lesson: Lesson, report: Callable[[Step], None]
) -> tuple[SegmenterCard, bytes]:
    """A segmenter after exactly so many steps; with few labels none are spent on choosing weights.

    Otherwise the best of some validations is taken, by the lesson's own validation frames.
    """
    settings, asked = segmenter_settings(protocol), protocol.asked
    network = first_network(settings, lesson.train.structures)
    is_mixed_N = lesson.train.has_sector_N & settings.backmix
    reach = WarpReach(
        settings.rotation_deg, settings.zoom, settings.shift, settings.brightness, settings.gamma
    )
    material = AnnotatedMaterial(
        lesson.train, None, is_mixed_N, reach, settings.batch_size, settings.seed
    )
    checks = min(CHECKS, asked.segmenter_steps)
    num_batches = asked.segmenter_steps // checks
    plan = Plan(
        epochs=checks, num_batches=num_batches, patience=checks,
        learning_rate=settings.learning_rate, schedule=settings.schedule, seed=settings.seed,
    )  # fmt: skip

    def batches(part: int) -> Iterator[AnnotatedBatch]:
        return islice(_endless(material, part * num_batches), num_batches)

    judge = judge_of(lesson, settings)
    objective = Objective(batches, mask_batch_loss(settings.device), judge)
    checkpoint = Checkpoint(folder / "run")
    course = train(network, objective, plan, checkpoint, report)
    if asked.labelled:
        checkpoint.restore_last(network)
    weights = pack_tensors({name: value.cpu() for name, value in network.state_dict().items()})
    manifest = protocol.store.manifest(asked.dataset)
    card = segmenter_card(
        [manifest], lesson, settings, weights, site=manifest.site, now=datetime.now(UTC)
    )
    checkpoint.remove()
    assert course.epoch == checks
    return card, weights


def _endless(material: AnnotatedMaterial, first: int) -> Iterator[AnnotatedBatch]:
    """The batches of pass after pass from a place on."""
    turn, skipped = divmod(first, material.num_batches)
    while True:
        yield from islice(material.batches(turn), skipped, None)
        turn, skipped = turn + 1, 0


def dice_of_patients(
    card: SegmenterCard, weights: bytes, cases: list[Case]
) -> dict[str, dict[str, float]]:
    """Mean Dice of each structure over the frames of each patient, at the pictures' own size."""
    segmenter = Segmenter(card, build_forward(card, weights))
    found: dict[str, dict[str, list[float]]] = {}
    for case in cases:
        (answer,) = segmenter.masks(case.clip, view=case.view)
        labels_HW = answer.mask.renamed(case.annotation.structures).labels_HW
        for name, value in mask_figures(labels_HW, case, card.structures).items():
            if name.startswith("dice_"):
                own = found.setdefault(name.removeprefix("dice_"), {})
                own.setdefault(case.patient, []).append(value)
    return {
        name: {patient: float(np.mean(values)) for patient, values in own.items()}
        for name, own in found.items()
    }


def patient_means(dice: DiceOfPatients) -> dict[str, float]:
    """A patient's mean over the structures."""
    patients = sorted({patient for own in dice.values() for patient in own})
    return {
        patient: float(np.mean([own[patient] for own in dice.values() if patient in own]))
        for patient in patients
    }


def interval_of(values: NDArray[np.float64]) -> str:
    """95 % interval of the mean over patients, by a bootstrap."""
    drawn = np.random.default_rng(0).choice(values, (DRAWS, len(values))).mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"[{low:.3f}, {high:.3f}]"


def dice_figures(dice: DiceOfPatients, real: DiceOfPatients) -> dict[str, object]:
    """Dice by structure, its share of the real-only segmenter's, and the paired difference."""
    row: dict[str, object] = {}
    for name, own in dice.items():
        row[f"dice_{name}"] = round(float(np.mean(list(own.values()))), 4)
        row[f"share_{name}"] = round(
            float(np.mean(list(own.values())) / np.mean(list(real[name].values()))), 3
        )
    ours, theirs = patient_means(dice), patient_means(real)
    difference = np.array([ours[patient] - theirs[patient] for patient in ours])
    row["dice"] = round(float(np.mean(list(ours.values()))), 4)
    row["dice_interval"] = interval_of(np.array(list(ours.values())))
    row["share"] = round(float(np.mean(list(ours.values())) / np.mean(list(theirs.values()))), 3)
    row["difference"] = round(float(difference.mean()), 4)
    row["difference_interval"] = interval_of(difference)
    return row
