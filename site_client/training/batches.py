"""Batches of training frames: changed, mixed, normalised; each epoch from a seed of its own."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shared.seeding import numpy_generator
from site_client.augment.backmix import LossWeights, mix_background
from site_client.augment.geometry import (
    Changes,
    MaskedFrames,
    Reach,
    change_frames,
    draw_changes,
    normalise,
)
from site_client.frames import FrameSet

ViewsLoss = Callable[[Tensor, Tensor], Tensor]
UNMIXED = -1
"""Donor of a frame that keeps its background."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What one step learns from.

    Args:
        images_N1HW: normalised.
        allowed_NC: True for the views that a frame's label stands for.
        weight_N: loss weights.
    """

    images_N1HW: Tensor
    allowed_NC: Tensor
    weight_N: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """The training frames and what may be done to them.

    Args:
        is_mixed_N: frames whose background is swapped, and who give theirs.
        allowed_NC: True for the views that a frame's label stands for.
    """

    frames: FrameSet
    allowed_NC: NDArray[np.bool_]
    is_mixed_N: NDArray[np.bool_]
    weights: LossWeights
    reach: Reach
    batch_size: int
    seed: int

    @property
    def num_batches(self) -> int:
        """Steps of an epoch."""
        return len(split_order(np.arange(len(self.frames)), self.batch_size))

    def batches(self, epoch: int) -> Iterator[Batch]:
        """All frames once, shuffled and changed by the seed and the epoch alone."""
        generator = numpy_generator(self.seed, "batches", epoch)
        order = generator.permutation(len(self.frames))
        mixed = np.flatnonzero(self.is_mixed_N)
        for place_N in split_order(order, self.batch_size):
            donor_N = np.full(len(place_N), UNMIXED)
            is_mixed_N = self.is_mixed_N[place_N]
            if len(mixed):
                drawn_N = generator.choice(mixed, len(place_N))
                donor_N[is_mixed_N] = drawn_N[is_mixed_N]
            changes = draw_changes(self.reach, len(place_N), generator)
            weight_N = np.where(is_mixed_N, self.weights.mixed, self.weights.plain)
            yield Batch(
                images_N1HW=picture(self.frames, place_N, donor_N, changes),
                allowed_NC=torch.from_numpy(self.allowed_NC[place_N]),
                weight_N=torch.from_numpy(weight_N.astype(np.float32)),
            )


def batch_loss(loss_fn: ViewsLoss, model: nn.Module, batch: Batch) -> Tensor:
    """Weighted mean loss of a batch.

    Args:
        loss_fn: logits (N, C) and allowed views (N, C) -> loss of each frame (N,).
        model: of view logits.
        batch: what it learns from.
    """
    images_N1HW = batch.images_N1HW.contiguous(memory_format=torch.channels_last)
    loss_N = loss_fn(model(images_N1HW), batch.allowed_NC)
    return (batch.weight_N * loss_N).mean()


def picture(
    frames: FrameSet, place_N: NDArray[np.integer], donor_N: NDArray[np.integer], changes: Changes
) -> Tensor:
    """Frames as the network sees them in training: changed, mixed, clipped, z-scored.

    Args:
        frames: where receivers and donors are taken from.
        place_N: the receivers.
        donor_N: whose background each gets, ``UNMIXED`` for its own.
        changes: of the receivers; donors stay as they are.
    """
    changed = change_frames(frames.masked_frames(place_N), changes)
    is_mixed_N = donor_N != UNMIXED
    if is_mixed_N.any():
        chosen = torch.from_numpy(np.flatnonzero(is_mixed_N))
        receiver = MaskedFrames(changed.pixels_N1HW[chosen], changed.mask_N1HW[chosen])
        donor = frames.masked_frames(donor_N[is_mixed_N])
        changed.pixels_N1HW[chosen] = mix_background(receiver, donor)
    return normalise(changed.pixels_N1HW)


def plain_batches(frames: FrameSet, batch_size: int) -> Iterator[Tensor]:
    """All frames in order as the network sees them at prediction: z-scored and nothing else."""
    for begin in range(0, len(frames), batch_size):
        yield normalised(frames.pixels_NHW[begin : begin + batch_size])


def normalised(pixels_NHW: NDArray[np.uint8]) -> Tensor:
    """Grey frames as the network's input (N, 1, H, W), z-scored one by one."""
    return normalise(torch.from_numpy(pixels_NHW)[:, None].float())


def split_order(order: NDArray[np.integer], batch_size: int) -> Sequence[NDArray[np.integer]]:
    """Cut an order into batches; a single frame left over joins the batch before it.

    BatchNorm cannot learn from one frame.
    """
    cuts = list(range(batch_size, len(order), batch_size))
    if cuts and len(order) - cuts[-1] == 1:
        cuts.pop()
    return np.split(order, cuts)
