"""The loss of set-valued labels: minus the log-probability that any allowed view is shown."""

from dataclasses import dataclass

from torch import Tensor


def label_set_loss(logits_NC: Tensor, allowed_NC: Tensor) -> Tensor:
    """Minus log of the probability of each frame's label set; cross-entropy for a set of one.

    A logit of minus infinity leaves its view out of the normalisation.

    Args:
        logits_NC: one column a view.
        allowed_NC: True for the views that a frame's label stands for; at least one a row.

    Returns:
        Loss of each frame (N,).

    Reference: marginal loss of partially labelled data, Shi et al. 2021 (arXiv 2007.03868).
    """
    within_N = logits_NC.masked_fill(~allowed_NC, float("-inf")).logsumexp(dim=1)
    return logits_NC.logsumexp(dim=1) - within_N


@dataclass(frozen=True, slots=True, eq=False)
class PresentViewsLoss:
    """The loss over some of the head's views only: the others neither learn nor are pushed down.

    Args:
        present_C: True for the views that have training frames.
    """

    present_C: Tensor

    def __call__(self, logits_NC: Tensor, allowed_NC: Tensor) -> Tensor:
        """Loss of each frame (N,)."""
        return label_set_loss(logits_NC.masked_fill(~self.present_C, float("-inf")), allowed_NC)
