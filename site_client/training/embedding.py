"""Train an embedding to tell patients apart; by it drawn images are compared with real frames."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shared.errors import Code, EchoFedError
from shared.models import EMBEDDINGS
from shared.models.embedding import SIDE, pair_loss
from shared.seeding import derive_seed, numpy_generator
from shared.segmentation.fit import resized
from shared.synthesis.release import embedded
from site_client.augment.warp import WarpReach, draw_warp, shade, warp_maps
from site_client.training.checkpoint import Checkpoint, Course, Validation
from site_client.training.loop import Objective, Plan, Step, train

EMBEDDING_REACH = WarpReach(rotation_deg=8.0, zoom=0.1, shift=0.05, brightness=0.15, gamma=0.4)
"""Two looks at a patient differ at least so much; a drawn copy may differ as much."""
_TEMPERATURE = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class PatientFrames:
    """Frames and whose they are.

    Args:
        pixels_NSS: uint8 grey squares.
        patient_N: number of the patient.
    """

    pixels_NSS: NDArray[np.uint8]
    patient_N: NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class EmbeddingPlan:
    """What to train and how long.

    Args:
        embedding: its line in ``EMBEDDINGS``.
        options: what it is built with.
        batch_size: patients of a step, two frames each.
        num_batches: steps of an epoch, after which it is judged.
    """

    embedding: str = "reidentify"
    options: tuple[tuple[str, int], ...] = ()
    epochs: int = 5
    num_batches: int = 40
    batch_size: int = 32
    learning_rate: float = 1e-3
    seed: int = 0


def train_embedding(
    frames: PatientFrames,
    val: PatientFrames,
    plan: EmbeddingPlan,
    checkpoint: Checkpoint,
    report: Callable[[Step], None],
) -> tuple[nn.Module, Course]:
    """Train; the weights of the epoch that tells the validation patients apart best are kept.

    Args:
        frames: to learn from.
        val: of other patients, at least one of them with two frames.
        plan: how.
        checkpoint: from which a killed run goes on.
        report: told after each step.

    Returns:
        The network, and the course; its best score is the area under the curve.

    Raises:
        EchoFedError: TOO_FEW_PATIENTS, PATIENT_IN_TWO_SPLITS, NAME_UNKNOWN, FEATURES_NOT_FINITE.
    """
    expect_patients(frames.patient_N, val.patient_N)
    small = PatientFrames(_small(frames.pixels_NSS), frames.patient_N)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(plan.seed, "embedding"))
        network: nn.Module = EMBEDDINGS[plan.embedding](**dict(plan.options))
    objective = Objective(
        batches=lambda epoch: _pairs(small, plan, epoch),
        loss_fn=_loss,
        validate=lambda model: _validation(model, val),
    )
    steps = Plan(
        plan.epochs,
        plan.num_batches,
        patience=plan.epochs,
        learning_rate=plan.learning_rate,
        schedule="onecycle",
        seed=plan.seed,
    )
    return network, train(network, objective, steps, checkpoint, report)


def expect_patients(train_N: NDArray[np.integer], val_N: NDArray[np.integer]) -> None:
    """Refuse frames, by number of their patient, from which nobody could learn to tell these apart.

    Raises:
        EchoFedError: TOO_FEW_PATIENTS, PATIENT_IN_TWO_SPLITS.
    """
    if len(np.unique(train_N)) < 2:
        raise EchoFedError(
            Code.TOO_FEW_PATIENTS,
            "an embedding that tells patients apart cannot be learnt from one",
            "ingest more patients",
        )
    num_val = len(np.unique(val_N))
    if num_val < 2 or num_val == len(val_N):
        raise EchoFedError(
            Code.TOO_FEW_PATIENTS,
            f"whether patients are told apart cannot be seen by {len(val_N)} frames of {num_val}",
            "validate on at least two patients, one of them with two frames: ingest more, or raise "
            "ingest.val_fraction",
        )
    if np.intersect1d(train_N, val_N).size:
        raise EchoFedError(
            Code.PATIENT_IN_TWO_SPLITS,
            "a patient's frames are learnt from and validated with",
            "split by patient",
        )


def patient_auc(vectors_ND: Tensor, patient_N: NDArray[np.integer]) -> float:
    """Chance that two frames of one patient are more alike than two of different patients.

    The area under the ROC curve over all pairs of frames; half of it is for ties.

    Raises:
        EchoFedError: TOO_FEW_PATIENTS where all pairs are of one kind.
    """
    first, second = np.triu_indices(len(patient_N), 1)
    similarity_P = (vectors_ND @ vectors_ND.T).double().numpy()[first, second]
    is_same_P = patient_N[first] == patient_N[second]
    same, other = np.sort(similarity_P[is_same_P]), np.sort(similarity_P[~is_same_P])
    if not len(same) or not len(other):
        raise EchoFedError(
            Code.TOO_FEW_PATIENTS,
            f"{len(same)} pairs of one patient and {len(other)} of two cannot be told apart",
            "validate on at least two patients, one of them with two frames",
        )
    below = np.searchsorted(other, same, "left") + np.searchsorted(other, same, "right")
    return float(below.mean() / (2 * len(other)))


def _pairs(
    frames: PatientFrames, plan: EmbeddingPlan, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Two looks (N, 1, S, S) at each of some patients: two of the frames if there are so many."""
    generator = numpy_generator(plan.seed, "pairs", epoch)
    places = [np.flatnonzero(frames.patient_N == one) for one in np.unique(frames.patient_N)]
    size = min(plan.batch_size, len(places))
    for _ in range(plan.num_batches):
        chosen = generator.choice(len(places), size, replace=False)
        pair_N2 = np.stack([_two_of(places[patient], generator) for patient in chosen])
        yield _look(frames, pair_N2[:, 0], generator), _look(frames, pair_N2[:, 1], generator)


def _small(pixels_NSS: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """At the size at which the network compares; to warp larger ones would take most of a step."""
    small_NSS: NDArray[np.uint8] = np.rint(resized(pixels_NSS, (SIDE, SIDE))).astype(np.uint8)
    return small_NSS


def _two_of(places: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
    return generator.choice(places, 2, replace=len(places) < 2)


def _look(
    frames: PatientFrames, place_N: NDArray[np.int64], generator: np.random.Generator
) -> Tensor:
    warp = draw_warp(EMBEDDING_REACH, len(place_N), generator)
    shaded_NSS = shade(torch.from_numpy(frames.pixels_NSS[place_N]).float(), warp)
    return warp_maps(shaded_NSS, warp, is_nearest=False, repeats_edge=False)[:, None]


def _loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    first_ND, second_ND = model(torch.cat(batch)).chunk(2)
    return pair_loss(first_ND, second_ND, _TEMPERATURE)


def _validation(model: nn.Module, val: PatientFrames) -> Validation:
    area = patient_auc(embedded(model, val.pixels_NSS), val.patient_N)
    return Validation(score=area, loss=1.0 - area)
