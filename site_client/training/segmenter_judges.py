"""What segmenters are held to in training, and how they are judged by the validation frames."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from shared.models.contour_loss import LossWeights, contour_loss, euclidean_mm
from shared.models.contour_net import ContourMaps
from shared.models.mask_loss import mask_loss
from site_client.annotated import AnnotatedFrames
from site_client.training.annotated_batches import AnnotatedBatch, plain_annotated
from site_client.training.checkpoint import Validation
from site_client.training.outlines import Outlines

BatchLoss = Callable[[nn.Module, AnnotatedBatch], Tensor]
_BATCH = 16  # frames in a forward pass; changes the speed, not the result


@dataclass(frozen=True, slots=True)
class Judgement(Validation):
    """A validation with what it is made of.

    Args:
        details: figures by name.
    """

    details: dict[str, float]


class MaskJudge:
    """Mean Dice of the validation frames, over the structures that each annotation names."""

    def __init__(self, frames: AnnotatedFrames, device: str) -> None:
        """Keep the frames."""
        self._frames = frames
        self._device = device

    @torch.inference_mode()
    def __call__(self, model: nn.Module) -> Judgement:
        """Dice by structure, their mean as score, and one minus it as loss."""
        model.to(self._device).eval()
        sums = torch.zeros(len(self._frames.structures), dtype=torch.float64)
        counts = torch.zeros_like(sums)
        for batch in plain_annotated(self._frames, None, _BATCH):
            logits_NSHW = model(_last(batch.images_N1HW.to(self._device))).cpu()
            found_NHW = _background_where_hidden(logits_NSHW, batch.annotated_NS)
            for value in range(1, len(sums)):
                mine, theirs = found_NHW == value, batch.labels_NHW == value
                both_N, sum_N = (mine & theirs).sum((1, 2)), mine.sum((1, 2)) + theirs.sum((1, 2))
                counted_N = batch.annotated_NS[:, value] & (sum_N > 0)
                sums[value] += (2 * both_N[counted_N] / sum_N[counted_N]).sum()
                counts[value] += counted_N.sum()
        dice_S = (sums / counts.clamp(min=1))[1:]
        score = float(dice_S[counts[1:] > 0].mean()) if counts.any() else 0.0
        names = self._frames.structures[1:]
        details = {f"val_dice_{name}": float(d) for name, d in zip(names, dice_S, strict=True)}
        return Judgement(score, 1.0 - score, {"val_dice": score, **details})


class ContourJudge:
    """Mean error of the landmarks of the validation frames."""

    def __init__(self, frames: AnnotatedFrames, outlines: Outlines, device: str) -> None:
        """Keep the frames and their contours."""
        self._frames, self._outlines = frames, outlines
        self._device = device

    @torch.inference_mode()
    def __call__(self, model: nn.Module) -> Judgement:
        """The error in mm as loss, and minus it as score."""
        model.to(self._device).eval()
        errors = []
        for batch in plain_annotated(self._frames, self._outlines, _BATCH):
            maps: ContourMaps = model(
                _last(batch.images_N1HW.to(self._device)), batch.mm_per_pixel_N2.to(self._device)
            )
            errors.append(euclidean_mm(maps.points_xy_mm_NK2.cpu(), batch.points_xy_mm_NK2))
        error_mm = float(torch.cat(errors).nanmean())
        return Judgement(-error_mm, error_mm, {"val_landmark_error_mm": error_mm})


def mask_batch_loss(device: str) -> BatchLoss:
    """The loss of a network of masks on a batch."""

    def loss(model: nn.Module, batch: AnnotatedBatch) -> Tensor:
        logits_NSHW = model(_last(batch.images_N1HW.to(device)))
        return mask_loss(logits_NSHW, batch.labels_NHW.to(device), batch.annotated_NS.to(device))

    return loss


def contour_batch_loss(weights: LossWeights, device: str) -> BatchLoss:
    """The loss of the contour network on a batch: the sum of its weighted terms."""

    def loss(model: nn.Module, batch: AnnotatedBatch) -> Tensor:
        spacing_N2 = batch.mm_per_pixel_N2.to(device)
        maps: ContourMaps = model(_last(batch.images_N1HW.to(device)), spacing_N2)
        terms = contour_loss(
            maps,
            batch.points_xy_mm_NK2.to(device),
            batch.distance_mm_NHW.to(device),
            spacing_N2,
            weights=weights,
        )
        return torch.stack(list(terms.values())).sum()

    return loss


def _background_where_hidden(logits_NSHW: Tensor, annotated_NS: Tensor) -> Tensor:
    """Most probable structure; one that was not looked for counts as background."""
    found_NHW = logits_NSHW.argmax(dim=1)
    is_seen_NHW = annotated_NS.gather(1, found_NHW.flatten(1)).view_as(found_NHW)
    return torch.where(is_seen_NHW, found_NHW, torch.zeros_like(found_NHW))


def _last(images_N1HW: Tensor) -> Tensor:
    return images_N1HW.contiguous(memory_format=torch.channels_last)
