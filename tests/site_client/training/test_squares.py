import numpy as np
import pytest
import torch

from shared.errors import Code, EchoFedError
from site_client.training.squares import SquareMaterial, Squares, plain_squares


def squares(num: int) -> Squares:
    """Frame n has n on its left and n + 100 on its right; its sector is the left side."""
    pixels = np.tile(np.arange(num, dtype=np.uint8)[:, None, None], (1, 4, 4))
    pixels[..., 2:] += 100
    sector = np.zeros((num, 4, 4), bool)
    sector[..., :2] = True
    return Squares(pixels, sector)


def material(num: int, num_batches: int, seed: int = 0) -> SquareMaterial:
    return SquareMaterial(
        squares(num), batch_size=3, num_batches=num_batches, seed=seed, device="cpu"
    )


def numbers(given: SquareMaterial, epoch: int) -> list[int]:
    return [
        int(image[0, 0, 0] * 255 + 0.5)
        for batch in given.batches(epoch, flip_probability=0.0)
        for image in batch.images_N1SS
    ]


def test_every_frame_comes_before_any_comes_again() -> None:
    order = numbers(material(5, 4), 0)
    assert len(order) == 12
    assert sorted(order[:5]) == sorted(order[5:10]) == list(range(5))


def test_order_depends_on_seed_and_epoch_alone() -> None:
    assert numbers(material(9, 3), 2) == numbers(material(9, 3), 2)
    assert numbers(material(9, 3), 2) != numbers(material(9, 3), 3)
    assert numbers(material(9, 3), 2) != numbers(material(9, 3, seed=1), 2)


def test_image_and_sector_are_flipped_together() -> None:
    (batch,) = material(3, 1).batches(0, flip_probability=1.0)
    assert (batch.sector_N1SS[..., :2] == 0).all()
    assert (batch.sector_N1SS[..., 2:] == 1).all()
    assert (batch.images_N1SS[..., 2:] < batch.images_N1SS[..., :2]).all()


def test_draws_of_an_epoch_come_from_one_generator() -> None:
    first, second = material(6, 2).batches(1, flip_probability=0.5)
    again, _ = material(6, 2).batches(1, flip_probability=0.5)
    assert first.generator is second.generator
    assert torch.equal(
        torch.rand(3, generator=first.generator), torch.rand(3, generator=again.generator)
    )


def test_plain_squares_are_all_frames_in_order() -> None:
    images, sectors = map(torch.cat, zip(*plain_squares(squares(5), 2, "cpu"), strict=True))
    assert (images[:, 0, 0, 0] * 255).round().tolist() == list(range(5))
    assert sectors.shape == (5, 1, 4, 4)
    assert images.max() <= 1


def test_pixels_and_sectors_belong_together() -> None:
    with pytest.raises(EchoFedError) as caught:
        Squares(np.zeros((2, 4, 4), np.uint8), np.zeros((2, 4, 5), bool))
    assert caught.value.code is Code.SHAPE_MISMATCH
