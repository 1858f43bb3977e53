"""The loss of set-valued labels: minus the log-probability that any allowed view is shown."""

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
