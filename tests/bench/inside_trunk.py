"""What the product does not have, to hold adapters beside a trunk against: for the bench only.

Low-rank changes of every convolution with norms that learn (LoRA, Hu et al., arXiv 2106.09685)
move all maps of the trunk, so every expert needs a full pass of its own; a head alone changes none.
"""

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn

from shared.models.backbone import classifier_of, draw_small_head
from shared.models.encoder import Encoder


class LowRankConv(nn.Module):
    """A frozen convolution and a learnt change of its kernel of low rank, at first zero."""

    def __init__(self, conv: nn.Conv2d, rank: int) -> None:
        """Stand beside a convolution without groups."""
        super().__init__()
        self.conv = conv
        self.down = nn.Conv2d(
            conv.in_channels, rank, cast(Any, conv.kernel_size), cast(Any, conv.stride),
            cast(Any, conv.padding), bias=False,
        )  # fmt: skip
        self.up = nn.Conv2d(rank, conv.out_channels, 1, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """The changed convolution."""
        out: Tensor = self.conv(x) + self.up(self.down(x))
        return out


def with_low_rank(trunk: nn.Module, num_views: int, *, rank: int = 4) -> nn.Module:
    """A copy of a trunk of which low-rank changes, norms and a new head learn, and nothing else."""
    model = copy.deepcopy(trunk).requires_grad_(False)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Conv2d) and child.groups == 1:
                setattr(module, name, LowRankConv(child, rank))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.requires_grad_(True)
    cast(Any, model).reset_classifier(num_views)
    draw_small_head(classifier_of(model))
    return model.to(memory_format=torch.channels_last)


class HeadOnly(nn.Module):
    """A new head on the frozen features of a trunk."""

    def __init__(self, encoder: Encoder, num_views: int, *, width: int) -> None:
        """Draw the head; the encoder is no part of the module."""
        super().__init__()
        self._encoder = encoder
        self.norm = nn.BatchNorm1d(width)
        self.fc = nn.Linear(width, num_views)
        draw_small_head(self.fc)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, C)."""
        logits_NC: Tensor = self.fc(self.norm(self._encoder.see(x).features_ND))
        return logits_NC


def num_learnt(model: nn.Module) -> int:
    """Parameters that learn."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
