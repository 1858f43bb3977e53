"""The gate of a fusion: evidence of all experts -> id logits, and the standardising of inputs.

Reference: Bransby et al. 2024 (arXiv 2407.21577). Its gate reads raw inputs; here they are
standardised first, for raw distances span orders of magnitude between backbones.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

_HIDDEN = (64, 16)  # the paper's gate: inputs-64-16-experts
_SD_FLOOR = 1e-3  # of the mean deviation: a dead channel must not explode on foreign frames


class Standardise(nn.Module):
    """Subtract a fixed mean and divide by a fixed deviation, both of the training rows."""

    def __init__(self, width: int) -> None:
        """Start as the identity."""
        super().__init__()
        self.mean_D: Tensor
        self.sd_D: Tensor
        self.register_buffer("mean_D", torch.zeros(width))
        self.register_buffer("sd_D", torch.ones(width))

    def forward(self, rows_ND: Tensor) -> Tensor:
        """Standardised rows (N, D)."""
        scaled_ND: Tensor = (rows_ND - self.mean_D) / self.sd_D
        return scaled_ND

    def fit(self, rows_ND: Tensor, weight_N: Tensor) -> None:
        """Take mean and deviation of the rows; a row of weight zero does not count."""
        share_N = (weight_N / weight_N.sum()).to(rows_ND)
        mean_D = share_N @ rows_ND
        sd_D = (share_N @ (rows_ND - mean_D).square()).sqrt()
        floor = _SD_FLOOR * sd_D.mean()
        self.mean_D.copy_(mean_D)
        self.sd_D.copy_(torch.where(sd_D > floor, sd_D, torch.ones_like(sd_D)))


class Gate(nn.Module):
    """Evidence (or features) of all experts -> id logits, an MLP inputs-64-16-E with ReLU.

    The first layer is a sum of one linear map per expert and the last has one row per expert, so
    that an expert can be taken out by dropping its term and its row.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        """Reserve weights for the widths of the experts' inputs."""
        super().__init__()
        first, second = _HIDDEN
        self.first = nn.ParameterList([torch.empty(first, width) for width in widths])
        self.first_bias = nn.Parameter(torch.empty(first))
        self.second = nn.Parameter(torch.empty(second, first))
        self.second_bias = nn.Parameter(torch.empty(second))
        self.last = nn.Parameter(torch.empty(len(widths), second))
        self.last_bias = nn.Parameter(torch.empty(len(widths)))

    def forward(self, inputs: Sequence[Tensor], available_NE: Tensor | None) -> Tensor:
        """Id logits (N, E) before normalising."""
        terms = [rows @ weight.T for rows, weight in zip(inputs, self.first, strict=True)]
        if available_NE is not None:
            terms = [
                term.masked_fill(~available_NE[:, place, None], 0.0)
                for place, term in enumerate(terms)
            ]
        hidden = torch.relu(torch.stack(terms).sum(dim=0) + self.first_bias)
        hidden = torch.relu(hidden @ self.second.T + self.second_bias)
        return hidden @ self.last.T + self.last_bias
