import torch

from shared.models.loss import label_set_loss

LOGITS = torch.randn(16, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
TRUE = torch.arange(16) % 5


def test_loss_of_single_views_is_cross_entropy() -> None:
    allowed = torch.nn.functional.one_hot(TRUE, 5).bool()
    expected = torch.nn.functional.cross_entropy(LOGITS, TRUE, reduction="none")
    torch.testing.assert_close(label_set_loss(LOGITS, allowed), expected)


def test_wider_set_never_costs_more() -> None:
    narrow = torch.nn.functional.one_hot(TRUE, 5).bool()
    wide = narrow | torch.nn.functional.one_hot((TRUE + 1) % 5, 5).bool()
    assert (label_set_loss(LOGITS, wide) < label_set_loss(LOGITS, narrow)).all()


def test_set_of_all_views_costs_nothing() -> None:
    loss = label_set_loss(LOGITS, torch.ones(16, 5, dtype=torch.bool))
    torch.testing.assert_close(loss, torch.zeros(16, dtype=torch.float64))


def test_view_left_out_gets_no_gradient() -> None:
    logits = LOGITS.clone().requires_grad_()
    shut = logits.masked_fill(torch.tensor([False, False, False, False, True]), float("-inf"))
    label_set_loss(shut, torch.nn.functional.one_hot(TRUE % 4, 5).bool()).sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad[:, 4] == 0).all()
    assert (logits.grad[:, :4] != 0).any()
