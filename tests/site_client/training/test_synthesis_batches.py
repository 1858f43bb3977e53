"""Images and label maps are warped together, and a step's batch depends on its number alone."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from shared.errors import Code, EchoFedError
from site_client.annotated import AnnotatedFrames
from site_client.augment.warp import WarpReach
from site_client.training.synthesis_batches import (
    DrawnMaterial,
    fewest_patients,
    labelled,
    structures_of,
)

REACH = WarpReach(20.0, 0.3, 0.1, 0.0, 0.0)
Build = Callable[..., AnnotatedFrames]


@pytest.fixture
def frames(ventricles: Build) -> AnnotatedFrames:
    return ventricles((96, 80), (80, 96), (90, 90), (96, 96))


def material(frames: AnnotatedFrames, *, seed: int = 0) -> DrawnMaterial:
    return DrawnMaterial(frames, REACH, 3, seed=seed, device="cpu")


def test_outside_comes_first_and_nothing_shows_there(frames: AnnotatedFrames) -> None:
    assert structures_of(frames)[:2] == ("outside", "background")
    batch = material(frames).plain(range(4))
    assert torch.equal(batch.labels_NSS == 0, batch.sector_N1SS[:, 0] == 0)
    inside_NSS = torch.from_numpy(frames.sector_NSS)
    expected = torch.where(inside_NSS, torch.from_numpy(frames.labels_NSS) + 1, 0)
    assert torch.equal(batch.labels_NSS, expected.to(torch.uint8))
    grey_NSS = torch.from_numpy(frames.pixels_NSS) / 255 * inside_NSS
    torch.testing.assert_close(batch.images_N1SS[:, 0], grey_NSS, atol=1e-5, rtol=0)


def test_a_map_is_warped_as_its_image_is(frames: AnnotatedFrames) -> None:
    painted = replace(frames, pixels_NSS=(50 * frames.labels_NSS).astype(np.uint8))
    batch = material(painted).batch(5)
    painted_NSS = (batch.labels_NSS.float() - 1).clamp(min=0) * 50 / 255
    away = (batch.images_N1SS[:, 0] - painted_NSS).abs()
    assert away[batch.labels_NSS > 0].median() < 1e-6
    assert batch.images_N1SS[batch.sector_N1SS == 0].abs().max() == 0
    assert not torch.equal(batch.labels_NSS, material(painted).batch(6).labels_NSS)


def test_maps_are_one_hot(frames: AnnotatedFrames) -> None:
    batch = material(frames).batch(0)
    maps_NLSS = batch.maps(5)
    assert torch.equal(maps_NLSS.argmax(1), batch.labels_NSS.long())
    assert torch.equal(maps_NLSS.sum(1), torch.ones(3, 96, 96))


def test_the_same_step_gives_the_same_batch_and_each_pass_shows_all_frames(
    frames: AnnotatedFrames,
) -> None:
    assert torch.equal(material(frames).batch(7).images_N1SS, material(frames).batch(7).images_N1SS)
    other = material(frames, seed=1).batch(7)
    assert not torch.equal(material(frames).batch(7).images_N1SS, other.images_N1SS)
    numbered = replace(frames, view_N=np.arange(4, dtype=np.int16))
    seen = torch.cat([material(numbered).batch(step).view_N for step in range(4)])
    assert [sorted(part.tolist()) for part in seen.split(4)] == [[0, 1, 2, 3]] * 3


def test_the_heart_is_never_mirrored(frames: AnnotatedFrames) -> None:
    half = np.zeros_like(frames.pixels_NSS)
    half[:, 40:56, 56:72] = 200  # right of the middle
    whole = np.ones_like(frames.sector_NSS)
    still = WarpReach(15.0, 0.1, 0.05, 0.0, 0.0)
    shown = DrawnMaterial(
        replace(frames, pixels_NSS=half, sector_NSS=whole), still, 4, seed=0, device="cpu"
    )
    columns = torch.arange(96.0)
    for step in range(20):
        mass_NS = shown.batch(step).images_N1SS[:, 0].sum(1)
        assert ((mass_NS * columns).sum(1) / mass_NS.sum(1) > 48).all()


def test_frames_with_structures_that_nobody_looked_for_are_not_drawn_from(
    frames: AnnotatedFrames,
) -> None:
    annotated_NS = np.ones((4, 4), bool)
    annotated_NS[1, 3] = False
    part = replace(frames, annotated_NS=annotated_NS)
    kept, num_patients = labelled(part, 0, seed=0)
    assert (kept.patient_N.tolist(), num_patients) == ([0, 2, 3], 3)
    few, _ = labelled(part, 2, seed=0)
    assert len(few) == 2
    assert few.patient_N.tolist() == labelled(part, 2, seed=0)[0].patient_N.tolist()
    for num, annotated, code in (
        (4, annotated_NS, Code.TOO_FEW_PATIENTS),
        (0, np.zeros((4, 4), bool), Code.FRAMES_MISSING),
    ):
        with pytest.raises(EchoFedError) as refused:
            labelled(replace(frames, annotated_NS=annotated), num, seed=0)
        assert refused.value.code is code


def test_the_fewest_patients_are_those_of_one_dataset_and_view(frames: AnnotatedFrames) -> None:
    some = replace(
        frames.take(np.zeros(6, np.int64)),
        patient_N=np.array([0, 0, 1, 2, 3, 3], np.int32),
        dataset_N=np.array([0, 0, 0, 0, 1, 1], np.int8),
        view_N=np.array([0, 0, 0, 1, 1, 1], np.int16),
    )
    assert fewest_patients(some) == 1
    assert fewest_patients(some.take(np.arange(3))) == 2
