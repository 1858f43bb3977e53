from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from shared.errors import Code, EchoFedError
from site_client.training.checkpoint import Checkpoint
from site_client.training.embedding import (
    EmbeddingPlan,
    PatientFrames,
    expect_patients,
    patient_auc,
    train_embedding,
)

PLAN = EmbeddingPlan(options=(("width", 8),), epochs=2, num_batches=8, batch_size=12)


def patients(first: int, num: int, frames: int = 2, side: int = 32) -> PatientFrames:
    """Each patient a coarse pattern of its own; frames differ by noise."""
    patient_N = np.repeat(np.arange(first, first + num), frames)
    pixels = []
    for place, patient in enumerate(patient_N):
        pattern = np.random.default_rng(int(patient)).uniform(40, 200, (4, 4))
        noise = np.random.default_rng([1, place]).normal(0, 15, (side, side))
        pixels.append(np.kron(pattern, np.ones((side // 4, side // 4))) + noise)
    return PatientFrames(np.clip(np.stack(pixels), 0, 255).astype(np.uint8), patient_N)


def trained(folder: Path, plan: EmbeddingPlan) -> tuple[dict[str, torch.Tensor], float]:
    network, course = train_embedding(
        patients(0, 16), patients(100, 8), plan, Checkpoint(folder), lambda step: None
    )
    assert course.best_score is not None
    return network.state_dict(), course.best_score


def test_strangers_are_told_apart_and_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    weights, area = trained(tmp_path / "first", PLAN)
    again, _ = trained(tmp_path / "again", PLAN)
    other, _ = trained(tmp_path / "other", replace(PLAN, seed=1, epochs=1))
    assert area > 0.95
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert not torch.equal(weights["head.weight"], other["head.weight"])


def test_area_is_one_for_clusters_and_a_half_for_equal_vectors() -> None:
    patient_N = np.repeat(np.arange(4), 3)
    assert patient_auc(torch.eye(4)[patient_N], patient_N) == 1.0
    assert patient_auc(torch.ones(12, 4), patient_N) == 0.5
    assert patient_auc(-torch.eye(4)[patient_N] @ torch.eye(4), patient_N) == 1.0


def test_area_is_the_share_of_pairs_in_the_right_order(seed: int) -> None:
    generator = np.random.default_rng(seed)
    patient_N = np.repeat(np.arange(5), 2)
    vectors_ND = torch.from_numpy(generator.normal(size=(10, 3)))
    similarity_NN = (vectors_ND @ vectors_ND.T).numpy()
    pairs = [(i, j) for i in range(10) for j in range(i)]
    same = [similarity_NN[i, j] for i, j in pairs if patient_N[i] == patient_N[j]]
    other = [similarity_NN[i, j] for i, j in pairs if patient_N[i] != patient_N[j]]
    expected = np.mean([one > two for one in same for two in other])
    assert patient_auc(vectors_ND, patient_N) == pytest.approx(expected, abs=1e-12)


def test_a_patient_in_both_splits_is_refused(tmp_path: Path) -> None:
    both = patients(0, 4)
    with pytest.raises(EchoFedError) as caught:
        train_embedding(both, patients(3, 4), PLAN, Checkpoint(tmp_path), lambda step: None)
    assert caught.value.code is Code.PATIENT_IN_TWO_SPLITS


def test_one_patient_is_too_few(tmp_path: Path) -> None:
    with pytest.raises(EchoFedError) as caught:
        train_embedding(
            patients(0, 1), patients(3, 4), PLAN, Checkpoint(tmp_path), lambda step: None
        )
    assert caught.value.code is Code.TOO_FEW_PATIENTS


@pytest.mark.parametrize("val_N", [(3, 3, 3), (3, 4, 5)])
def test_who_cannot_be_told_apart_is_refused_before_anything_is_learnt(
    val_N: tuple[int, ...],
) -> None:
    with pytest.raises(EchoFedError) as caught:
        expect_patients(np.arange(3), np.array(val_N))
    assert caught.value.code is Code.TOO_FEW_PATIENTS


def test_pairs_of_one_kind_have_no_area() -> None:
    with pytest.raises(EchoFedError) as caught:
        patient_auc(torch.eye(3), np.arange(3))
    assert caught.value.code is Code.TOO_FEW_PATIENTS
