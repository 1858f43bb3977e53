import numpy as np
import pytest
import torch

from shared.errors import Code, EchoFedError
from site_client.augment.backmix import choose_mixed, mix_background, weigh_losses
from site_client.augment.geometry import (
    PAPER_REACH,
    MaskedFrames,
    change_frames,
    draw_changes,
)


def frames(seed: int, *, low: int = 1) -> MaskedFrames:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(low, 256, (4, 1, 24, 24), generator=generator).float()
    return MaskedFrames(pixels, torch.rand(4, 1, 24, 24, generator=generator) > 0.4)


def all_sector(of: MaskedFrames) -> MaskedFrames:
    return MaskedFrames(of.pixels_N1HW, torch.ones_like(of.mask_N1HW))


@pytest.mark.parametrize("seed", range(3))
def test_backmix_leaves_the_sector_untouched(seed: int) -> None:
    receiver, donor = frames(seed), frames(seed + 10)
    mixed = mix_background(receiver, donor)
    inside = receiver.mask_N1HW
    assert torch.equal(mixed[inside], receiver.pixels_N1HW[inside])


def test_receiver_that_is_all_sector_stays_as_augmented() -> None:
    changes = draw_changes(PAPER_REACH, 4, np.random.default_rng(0))
    augmented = change_frames(all_sector(frames(0)), changes)
    assert torch.equal(mix_background(augmented, frames(1)), augmented.pixels_N1HW)


def test_donor_that_is_all_sector_gives_black() -> None:
    receiver = frames(0)
    mixed = mix_background(receiver, all_sector(frames(1)))
    assert (mixed[~receiver.mask_N1HW] == 0).all()


@pytest.mark.parametrize("seed", range(3))
def test_no_pixel_of_the_donors_sector_appears(seed: int) -> None:
    receiver, donor = frames(seed), frames(seed + 10)
    marked = MaskedFrames(donor.pixels_N1HW + 1000 * donor.mask_N1HW, donor.mask_N1HW)
    assert torch.equal(mix_background(receiver, donor), mix_background(receiver, marked))
    outside = ~receiver.mask_N1HW & ~donor.mask_N1HW
    assert torch.equal(mix_background(receiver, donor)[outside], donor.pixels_N1HW[outside])


@pytest.mark.parametrize(
    ("fraction", "every"), [(1.0, 1), (0.5, 2), (0.2, 5), (0.1, 10), (0.05, 20), (0.01, 100)]
)
def test_every_so_many_frames_of_the_sorted_list_are_mixed(fraction: float, every: int) -> None:
    chosen = choose_mixed(np.ones(400, dtype=bool), fraction)
    assert np.array_equal(np.flatnonzero(chosen), np.arange(0, 400, every))


@pytest.mark.parametrize("fraction", [0.75, 0.4])
def test_fraction_that_cannot_be_kept_is_refused(fraction: float) -> None:
    with pytest.raises(EchoFedError) as refusal:
        choose_mixed(np.ones(20, dtype=bool), fraction)
    assert refusal.value.code == Code.CONFIG_INVALID


def test_frames_without_a_mask_are_never_mixed() -> None:
    has_mask = np.arange(90) % 3 == 0
    assert not choose_mixed(has_mask, 0.5)[~has_mask].any()
    assert choose_mixed(has_mask, 0.5).sum() == 15


def test_backmix_without_any_mask_is_an_error() -> None:
    with pytest.raises(EchoFedError) as refusal:
        choose_mixed(np.zeros(5, dtype=bool), 1.0)
    assert refusal.value.code == Code.SECTOR_EMPTY


@pytest.mark.parametrize(("loss_lambda", "mixed", "plain"), [(1.0, 1.95, 0.95), (2.0, 2.9, 0.9)])
def test_loss_weights_are_the_papers(loss_lambda: float, mixed: float, plain: float) -> None:
    weights = weigh_losses(choose_mixed(np.ones(100, dtype=bool), 0.05), loss_lambda)
    assert weights.mixed == pytest.approx(mixed)
    assert weights.plain == pytest.approx(plain)


@pytest.mark.parametrize("share", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("loss_lambda", [0.0, 0.5, 1.0])
def test_mean_loss_weight_of_an_epoch_is_one(share: float, loss_lambda: float) -> None:
    is_mixed = np.random.default_rng(0).random(1000) < share
    weights = weigh_losses(is_mixed, loss_lambda)
    assert np.where(is_mixed, weights.mixed, weights.plain).mean() == pytest.approx(1)


def test_lambda_that_would_reward_errors_is_refused() -> None:
    with pytest.raises(EchoFedError) as refusal:
        weigh_losses(np.array([True, False]), 2.1)
    assert refusal.value.code == Code.CONFIG_INVALID
