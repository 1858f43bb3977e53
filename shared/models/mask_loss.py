"""What a network of masks is held to, where not everybody annotated every structure."""

import torch
from torch import Tensor

from shared.shapes import expect

_SMOOTH = 1.0  # pixel; a structure that is nowhere and nowhere predicted counts as right


def mask_loss(logits_NSHW: Tensor, labels_NHW: Tensor, annotated_NS: Tensor) -> Tensor:
    """Cross entropy plus one minus the mean soft Dice, both over what was annotated.

    A structure that a frame's annotator did not look for hides in the background; so there the
    background's probability is the sum of its own and of all that were not looked for.

    Args:
        logits_NSHW: of the structures, background first.
        labels_NHW: index of the structure.
        annotated_NS: True for the structures that a frame's annotation names.

    Reference: marginal and soft Dice losses for partial labels, Shi et al. 2021 (arXiv 2007.03868).
    """
    num = expect(annotated_NS, "N S", N=logits_NSHW.shape[0], S=logits_NSHW.shape[1])["S"]
    log_NSHW = merged_log_probabilities(logits_NSHW, annotated_NS)
    entropy = -log_NSHW.gather(1, labels_NHW[:, None].long()).mean()
    shown_NSHW = labels_NHW[:, None] == torch.arange(num, device=labels_NHW.device)[:, None, None]
    counts_NS11 = annotated_NS[:, :, None, None].to(log_NSHW)
    probability_NSHW = log_NSHW.exp() * counts_NS11
    shown_NSHW = shown_NSHW.to(log_NSHW) * counts_NS11
    both_S = (probability_NSHW * shown_NSHW).sum(dim=(0, 2, 3))
    sum_S = (probability_NSHW + shown_NSHW).sum(dim=(0, 2, 3))
    dice_S = (2 * both_S + _SMOOTH) / (sum_S + _SMOOTH)
    is_there_S = annotated_NS.any(dim=0)
    is_there_S[0] = False
    return entropy + 1 - dice_S[is_there_S].mean() if is_there_S.any() else entropy


def merged_log_probabilities(logits_NSHW: Tensor, annotated_NS: Tensor) -> Tensor:
    """Log-probabilities where what was not annotated counts to the background (N, S, H, W).

    Those of structures that were not annotated are left as they are and stand in no loss.
    """
    log_NSHW = logits_NSHW.log_softmax(dim=1)
    is_hidden_NS = ~annotated_NS
    is_hidden_NS[:, 0] = True
    if (is_hidden_NS.sum(dim=1) == 1).all():
        return log_NSHW
    away_NS11 = (~is_hidden_NS)[:, :, None, None]
    background_N1HW = log_NSHW.masked_fill(away_NS11, -torch.inf).logsumexp(dim=1, keepdim=True)
    return torch.cat([background_N1HW, log_NSHW[:, 1:]], dim=1)
