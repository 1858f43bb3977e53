"""What is said of a frame stays on the frame, however it is turned, mixed and scaled."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from shared.segmentation.distance import distance_from_mask
from shared.segmentation.fit import z_scored
from site_client.annotated import AnnotatedFrames
from site_client.augment.warp import WarpReach, draw_warp, warp_maps
from site_client.training.annotated_batches import (
    AnnotatedBatch,
    AnnotatedMaterial,
    plain_annotated,
)
from site_client.training.outlines import outlines_of

Make = Callable[..., AnnotatedFrames]
FAR = WarpReach(rotation_deg=20.0, zoom=0.2, shift=0.04, brightness=0.0, gamma=0.0)
STILL = WarpReach(0.0, 0.0, 0.0, 0.0, 0.0)
SIZES = ((90, 80), (80, 96), (96, 96), (96, 70))


def batches_of(
    frames: AnnotatedFrames,
    *,
    has_outlines: bool = False,
    mixed: tuple[int, ...] = (),
    reach: WarpReach = FAR,
    epoch: int = 0,
) -> list[AnnotatedBatch]:
    outlines = None
    if has_outlines:
        frames, outlines, _ = outlines_of(frames, 7)
    is_mixed_N = np.isin(np.arange(len(frames)), mixed)
    material = AnnotatedMaterial(frames, outlines, is_mixed_N, reach, batch_size=2, seed=3)
    found = list(material.batches(epoch))
    assert len(found) == material.num_batches
    return found


def test_a_padded_frame_is_scored_as_the_frame_alone(ventricles: Make) -> None:
    frames = ventricles(*SIZES)
    material = AnnotatedMaterial(frames, None, np.zeros(4, bool), STILL, batch_size=4, seed=3)
    (batch,) = material.batches(0)
    assert batch.images_N1HW.shape == (4, 1, 96, 96)
    alone = {
        size: z_scored(frames.pixels_NSS[[place], : size[0], : size[1]].astype(np.float32))[0]
        for place, size in enumerate(SIZES)
    }
    for image_HW in batch.images_N1HW[:, 0].numpy():
        nearest = min(
            float(np.abs(image_HW[:rows, :columns] - found_HW).max())
            for (rows, columns), found_HW in alone.items()
        )
        assert nearest < 1e-3


def test_plain_batches_hold_pictures_of_one_size_without_padding(ventricles: Make) -> None:
    frames = ventricles(*SIZES, SIZES[0])
    found = list(plain_annotated(frames, None, 16))
    assert sorted(len(batch.images_N1HW) for batch in found) == [1, 1, 1, 2]
    assert {tuple(batch.images_N1HW.shape[2:]) for batch in found} == set(SIZES)
    for batch in found:
        rows, columns = batch.images_N1HW.shape[2:]
        alike = (frames.size_N2 == [rows, columns]).all(axis=1)
        wanted = z_scored(frames.pixels_NSS[alike, :rows, :columns].astype(np.float32))
        np.testing.assert_allclose(batch.images_N1HW[:, 0].numpy(), wanted, atol=1e-4)


def test_plain_batches_say_what_the_frames_say(ventricles: Make) -> None:
    alike = ventricles(*[SIZES[2]] * 4)
    oblong = replace(alike, mm_per_pixel_N2=np.tile((1.5, 1.2), (4, 1)))
    frames, outlines, _ = outlines_of(oblong, 7)
    (batch,) = plain_annotated(frames, outlines, 16)
    assert np.array_equal(batch.labels_NHW.numpy(), frames.labels_NSS)
    wanted = outlines.points_xy_px_NK2 * [1.2, 1.5]
    np.testing.assert_allclose(batch.points_xy_mm_NK2, wanted, atol=1e-4)
    np.testing.assert_allclose(batch.distance_mm_NHW, outlines.distance_mm_NSS, atol=1e-4)


@pytest.mark.parametrize("epoch", range(3))
def test_landmarks_land_where_the_base_and_the_wall_of_the_mask_do(
    ventricles: Make, epoch: int
) -> None:
    """Found anew on the warped mask, in mm of the warped picture."""
    for batch in batches_of(ventricles(*SIZES), has_outlines=True, epoch=epoch):
        for place, labels_HW in enumerate(batch.labels_NHW):
            row_mm, column_mm = batch.mm_per_pixel_N2[place].tolist()
            is_cavity = (labels_HW == 1).numpy()
            below = np.roll(labels_HW.numpy(), -2, axis=0) * is_cavity
            assert below.any()
            points = batch.points_xy_mm_NK2[place].numpy() / [column_mm, row_mm]
            edge_mm = distance_from_mask(is_cavity, (row_mm, column_mm))
            columns, rows = np.rint(points).astype(int).T
            assert np.abs(edge_mm[rows, columns]).max() < 1.6 * row_mm
            # both ends of the base have wall, cavity and atrium or background within three pixels
            for column, row in zip(columns[[0, -1]], rows[[0, -1]], strict=True):
                around = labels_HW[max(row - 3, 0) : row + 4, max(column - 3, 0) : column + 4]
                assert {1, 2} < set(around.unique().tolist())


@pytest.mark.parametrize("epoch", range(3))
def test_the_zero_of_the_distances_goes_where_the_edge_of_the_mask_goes(
    ventricles: Make, epoch: int
) -> None:
    for batch in batches_of(ventricles(*SIZES), has_outlines=True, epoch=epoch):
        for place, labels_HW in enumerate(batch.labels_NHW):
            row_mm, column_mm = batch.mm_per_pixel_N2[place].tolist()
            anew = distance_from_mask((labels_HW == 1).numpy(), (row_mm, column_mm))
            told = batch.distance_mm_NHW[place].numpy()
            near = np.abs(anew) < 6.0
            # a zoomed mask has its staircase, a pixel at most, where the map has a line
            assert np.abs(told - anew)[near].max() < 1.5 * row_mm
            assert abs(float((told - anew)[near].mean())) < 0.2 * row_mm


def test_a_zoom_changes_the_spacing_and_not_the_heart(ventricles: Make) -> None:
    frames = ventricles(*SIZES)
    still = {
        round(float(batch.points_xy_mm_NK2[place].diff(dim=0).norm(dim=1).sum()), 2)
        for batch in batches_of(frames, has_outlines=True, reach=STILL)
        for place in range(len(batch.points_xy_mm_NK2))
    }
    warped = {
        round(float(batch.points_xy_mm_NK2[place].diff(dim=0).norm(dim=1).sum()), 2)
        for batch in batches_of(frames, has_outlines=True)
        for place in range(len(batch.points_xy_mm_NK2))
    }
    np.testing.assert_allclose(sorted(warped), sorted(still), atol=0.02)


def test_backmix_leaves_the_inside_and_unmixed_frames_untouched(ventricles: Make) -> None:
    """Mixing changes mean and deviation of a picture, so the inside is compared up to these."""
    frames = ventricles(*4 * ((96, 96),))
    mixed = batches_of(frames, mixed=(0, 1, 2), reach=STILL)
    order = {tuple(b.labels_NHW[p].flatten().tolist()): (b, p) for b in mixed for p in range(2)}
    is_own = []
    for place in range(4):
        batch, at = order[tuple(frames.labels_NSS[place].flatten().tolist())]
        seen, own = batch.images_N1HW[at, 0].numpy(), frames.pixels_NSS[place].astype(np.float32)
        inside = frames.sector_NSS[place]
        kept, told = own[inside], seen[inside]
        scaled = (kept - kept.mean()) / kept.std() * told.std() + told.mean()
        np.testing.assert_allclose(told, scaled, atol=1e-3)
        is_own.append(np.allclose(seen, z_scored(own[None])[0], atol=1e-3))
    # one that draws itself as donor keeps its background too
    assert is_own[3]
    assert is_own.count(False) >= 2


def test_a_sector_that_turns_takes_its_pixels_along(ventricles: Make) -> None:
    """With backgrounds of one grey each, none of the receiver's own is left outside."""
    frames = ventricles((96, 96), (96, 96))
    pixels_NSS = np.where(frames.sector_NSS, 200, 90).astype(np.uint8)
    frames = replace(frames, pixels_NSS=pixels_NSS)
    (batch,) = batches_of(frames, mixed=(0, 1))
    for image_1HW in batch.images_N1HW:
        # black where the donor's sector was, its grey elsewhere; 200 only within the sector
        values = image_1HW.flatten().unique()
        assert values.max() > 0 > values.min()
        share = float((image_1HW > values.max() - 0.05).float().mean())
        assert 0.4 < share < 1.0


def test_the_same_epoch_gives_the_same_batches_and_the_next_one_others(ventricles: Make) -> None:
    frames = ventricles(*SIZES)
    first, again, later = (batches_of(frames, mixed=(0, 1), epoch=epoch) for epoch in (0, 0, 1))
    for one, two in zip(first, again, strict=True):
        assert torch.equal(one.images_N1HW, two.images_N1HW)
        assert torch.equal(one.labels_NHW, two.labels_NHW)
    assert not all(
        one.images_N1HW.shape == two.images_N1HW.shape
        and torch.equal(one.images_N1HW, two.images_N1HW)
        for one, two in zip(first, later, strict=True)
    )


def test_labels_keep_to_names_under_a_warp() -> None:
    """No value between two structures comes into being."""
    generator = np.random.default_rng(5)
    labels = torch.from_numpy(generator.choice([0, 3], (4, 32, 32)).astype(np.uint8))
    warp = draw_warp(FAR, 4, generator)
    moved = warp_maps(labels, warp, is_nearest=True, repeats_edge=False)
    assert set(np.unique(moved.numpy()).tolist()) == {0.0, 3.0}
