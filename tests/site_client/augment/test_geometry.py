import numpy as np
import pytest
import torch

from site_client.augment.geometry import (
    PAPER_REACH,
    Changes,
    MaskedFrames,
    Reach,
    change_frames,
    draw_changes,
    join_changes,
    normalise,
)


def one_change(
    *, angle_deg: float = 0.0, flips: bool = False, shift: float = 0.0, gain: float = 1.0
) -> Changes:
    return Changes(np.array([angle_deg]), np.array([flips]), np.array([shift]), np.array([gain]))


def picture(size: int = 33) -> MaskedFrames:
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    pixels = 100 + 60 * torch.sin(rows / 4.0) + 40 * torch.cos(columns / 5.0)
    mask = (rows - 20) ** 2 + (columns - 12) ** 2 < 60
    return MaskedFrames(pixels[None, None], mask[None, None])


def test_no_change_is_the_identity() -> None:
    changed = change_frames(picture(), one_change())
    torch.testing.assert_close(changed.pixels_N1HW, picture().pixels_N1HW, atol=1e-3, rtol=0)
    assert torch.equal(changed.mask_N1HW, picture().mask_N1HW)


def test_flip_is_the_mirror_of_frame_and_mask() -> None:
    changed = change_frames(picture(), one_change(flips=True))
    expected = picture().pixels_N1HW.flip(3)
    torch.testing.assert_close(changed.pixels_N1HW, expected, atol=1e-3, rtol=0)
    assert torch.equal(changed.mask_N1HW, picture().mask_N1HW.flip(3))


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_quarter_turns_are_exact(turns: int) -> None:
    changed = change_frames(picture(), one_change(angle_deg=90.0 * turns))
    expected = torch.rot90(picture().pixels_N1HW, turns, dims=(2, 3))
    torch.testing.assert_close(changed.pixels_N1HW, expected, atol=1e-2, rtol=0)


@pytest.mark.parametrize("seed", range(3))
def test_mask_moves_with_the_frame(seed: int) -> None:
    frames = MaskedFrames(200.0 * picture().mask_N1HW, picture().mask_N1HW)
    changes = draw_changes(Reach(30.0, 0.5, 0.0), 1, np.random.default_rng(seed))
    changed = change_frames(frames, changes)
    bright = changed.pixels_N1HW > 100
    assert (bright == changed.mask_N1HW).float().mean() > 0.99


def test_border_repeats_the_edge() -> None:
    frames = MaskedFrames(torch.full((1, 1, 20, 20), 77.0), torch.ones(1, 1, 20, 20).bool())
    changed = change_frames(frames, one_change(angle_deg=25.0))
    torch.testing.assert_close(changed.pixels_N1HW, frames.pixels_N1HW)
    assert changed.mask_N1HW.all()


def test_grey_values_stay_in_range() -> None:
    frames = MaskedFrames(255 * (torch.rand(64, 1, 16, 16) > 0.5).float(), picture().mask_N1HW)
    frames = MaskedFrames(frames.pixels_N1HW, frames.pixels_N1HW > 0)
    changed = change_frames(frames, draw_changes(PAPER_REACH, 64, np.random.default_rng(0)))
    assert changed.pixels_N1HW.min() >= 0
    assert changed.pixels_N1HW.max() <= 255


def test_changes_stay_within_reach_and_use_it() -> None:
    changes = draw_changes(PAPER_REACH, 4000, np.random.default_rng(0))
    assert 29 < np.abs(changes.angle_deg_N).max() <= 30
    assert 0.149 < np.abs(changes.shift_N).max() <= 0.15
    assert 0.149 < np.abs(changes.gain_N - 1).max() <= 0.15
    assert changes.flips_N.mean() == pytest.approx(0.5, abs=0.03)


def test_change_of_a_frame_does_not_depend_on_its_batch() -> None:
    frames = MaskedFrames(255 * torch.rand(6, 1, 20, 20), torch.rand(6, 1, 20, 20) > 0.5)
    parts = [draw_changes(PAPER_REACH, 1, np.random.default_rng(n)) for n in range(6)]
    whole = change_frames(frames, join_changes(parts)).pixels_N1HW
    for n, part in enumerate(parts):
        alone = MaskedFrames(frames.pixels_N1HW[n : n + 1], frames.mask_N1HW[n : n + 1])
        torch.testing.assert_close(change_frames(alone, part).pixels_N1HW[0], whole[n])


def test_normalised_image_has_mean_zero_and_deviation_one() -> None:
    images = normalise(255 * torch.rand(5, 1, 30, 30))
    torch.testing.assert_close(images.mean(dim=(1, 2, 3)), torch.zeros(5), atol=1e-5, rtol=0)
    deviation = images.std(dim=(1, 2, 3), correction=0)
    torch.testing.assert_close(deviation, torch.ones(5), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("gain", "shift"), [(0.5, 0.0), (1.0, 20.0), (0.7, 10.0)])
def test_normalised_image_does_not_know_gain_and_shift(gain: float, shift: float) -> None:
    pixels = 200 * torch.rand(3, 1, 30, 30)
    torch.testing.assert_close(
        normalise(gain * pixels + shift), normalise(pixels), atol=1e-4, rtol=1e-4
    )


def test_image_of_one_grey_becomes_zero() -> None:
    assert (normalise(torch.full((1, 1, 8, 8), 40.0)) == 0).all()
