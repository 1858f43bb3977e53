"""Laws of the loss of masks where annotators looked for different structures."""

import pytest
import torch

from shared.models.mask_loss import mask_loss, merged_log_probabilities

ALL = torch.ones(2, 3, dtype=torch.bool)


def case(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 3, 6, 5, generator=generator, dtype=torch.float64)
    return logits.requires_grad_(), torch.randint(0, 3, (2, 6, 5), generator=generator)


def test_with_everything_annotated_it_is_cross_entropy_and_dice(seed: int) -> None:
    logits, labels = case(seed)
    probability = logits.softmax(dim=1)
    dice = []
    for value in (1, 2):
        mine, theirs = probability[:, value], (labels == value).double()
        dice.append((2 * (mine * theirs).sum() + 1) / (mine.sum() + theirs.sum() + 1))
    expected = torch.nn.functional.cross_entropy(logits, labels) + 1 - sum(dice) / 2
    assert mask_loss(logits, labels, ALL).item() == pytest.approx(expected.item(), abs=1e-12)


def test_what_was_not_looked_for_may_be_background(seed: int) -> None:
    logits, _ = case(seed)
    annotated = torch.tensor([[True, True, False]] * 2)
    log = merged_log_probabilities(logits, annotated)
    probability = logits.softmax(dim=1)
    assert torch.allclose(log[:, 0].exp(), probability[:, 0] + probability[:, 2])
    assert torch.allclose(log[:, 1].exp(), probability[:, 1])


def test_moving_probability_between_background_and_the_unannotated_changes_nothing(
    seed: int,
) -> None:
    logits, labels = case(seed)
    labels = labels.clamp(max=1)
    annotated = torch.tensor([[True, True, False]] * 2)
    swapped = logits[:, [2, 1, 0]]
    assert torch.allclose(
        mask_loss(logits, labels, annotated), mask_loss(swapped, labels, annotated)
    )


def test_frames_of_different_annotators_do_not_teach_each_others_gaps(seed: int) -> None:
    logits, labels = case(seed)
    labels[0] = labels[0].clamp(max=1)
    annotated = torch.tensor([[True, True, False], [True, True, True]])
    mask_loss(logits, labels, annotated).backward()
    assert logits.grad is not None
    ratio = logits.grad[0, 2] / logits.grad[0, 0]
    probability = logits.softmax(dim=1)
    # both are pulled alike: in proportion to what each has of the merged background
    assert torch.allclose(ratio, probability[0, 2] / probability[0, 0])


def test_a_perfect_answer_costs_nothing_and_the_worst_is_finite() -> None:
    _, labels = case(0)
    right = 60.0 * torch.nn.functional.one_hot(labels, 3).permute(0, 3, 1, 2).double()
    assert float(mask_loss(right, labels, ALL)) < 1e-9
    assert torch.isfinite(mask_loss(-right, labels, ALL))


def test_background_alone_leaves_cross_entropy() -> None:
    logits, labels = case(1)
    only = torch.tensor([[True, False, False]] * 2)
    assert mask_loss(logits, labels * 0, only).item() == pytest.approx(0.0, abs=1e-12)
