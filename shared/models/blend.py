"""The mean of a trained score fusion and a fitted union head, at one temperature.

What pays here is that the parts err differently: one is trained by gradient through every expert's
own head, the other is fitted in closed form and owes nothing to who owns a view. Means of
log-probabilities as in the product of experts (Hinton 2002, Neural Computation 14:1771).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from shared.echo.expert import Block, FusionVariant
from shared.models.fused import FusionOutput, expect_rows, union_views
from shared.models.fusion import ScoreFusion
from shared.models.union_head import UnionHead

HEAD_SHARE = 2.0 / 3.0
"""Of the union head, which is itself the mean of two closed forms: three equal parts in all."""


class Blend(nn.Module):
    """Add the logits of both parts: ``z = (2/3 u + 1/3 s / T_s) / T``.

    ``u`` are the logits of the union head and ``s`` those of the sum of all heads. Id scores are
    the union head's. A view all of whose owners are unavailable stays impossible.
    """

    variant: FusionVariant = "blend"
    has_id_scores = True

    def __init__(self, blocks: Sequence[Block], *, seed: int = 0) -> None:
        """Build from cards: first weights of the score fusion, a union head of zeros."""
        super().__init__()
        self.score = ScoreFusion(blocks, "sum", seed=seed)
        self.head = UnionHead(blocks)
        self.blocks = tuple(blocks)
        self.views = union_views(blocks)
        self._temperature_score = nn.Parameter(torch.ones(1), requires_grad=False)
        self._temperature = nn.Parameter(torch.ones(1), requires_grad=False)

    def forward(
        self,
        features: Sequence[Tensor],
        logits: Sequence[Tensor],
        evidence: Sequence[Tensor],
        available_NE: Tensor | None = None,
    ) -> FusionOutput:
        """Fuse N frames; arguments and errors as for ``ScoreFusion``."""
        expect_rows(self.blocks, features, logits, evidence, available_NE)
        scored = self.score(features, logits, evidence, available_NE)
        told = self.head(features, logits, evidence, available_NE)
        shares_NEV, _ = self.score.explain(scored)
        contributions_NEV = self._mean(told.contributions_NEB, shares_NEV)
        logits_NV = self._mean(told.logits_NV, scored.logits_NV)
        return FusionOutput(
            log_probabilities_NV=torch.log_softmax(logits_NV, dim=1),
            logits_NV=logits_NV,
            id_scores_NE=told.id_scores_NE,
            block_logits_NB=contributions_NEV.sum(dim=1),
            contributions_NEB=contributions_NEV,
        )

    def explain(self, output: FusionOutput) -> tuple[Tensor, Tensor]:
        """Contributions (N, E, V), and the remainder (N, V): the union head's share of its bias."""
        return output.contributions_NEB, output.logits_NV - output.block_logits_NB

    def named_weights(self) -> dict[str, Tensor]:
        """All weights by expert ids; those of the parts keep the names that they have alone."""
        return {
            **self.score.named_weights(),
            **self.head.named_weights(),
            "temperature/score": self._temperature_score.data,
            "temperature/fused": self._temperature.data,
        }

    def _mean(self, head: Tensor, score: Tensor) -> Tensor:
        score = score / self._temperature_score
        return (HEAD_SHARE * head + (1.0 - HEAD_SHARE) * score) / self._temperature
