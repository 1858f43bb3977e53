"""One head over the union views on the features of all experts: fitted, not trained.

Reference: AFL (He et al. 2025, arXiv 2405.16240). No view has several owners here, so nothing is
pooled; an expert's id score is the chance that its own answer is right, told by its own evidence
alone, so that all experts can be out of place at once.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from shared.echo.expert import Block, FusionVariant
from shared.models.fused import FusionOutput, expect_rows, require_distinct, union_views


class UnionHead(nn.Module):
    """Add what each expert's features say of every union view.

    ``z = b + sum over experts of W_j (h_j - m_j)``, and ``A_j = sigmoid(c_j + v_j . e_j)`` of the
    evidence ``e_j``. An expert that did not see a frame adds nothing, as if it stood at its mean.
    """

    variant: FusionVariant = "ridge"
    has_id_scores = True

    def __init__(self, blocks: Sequence[Block]) -> None:
        """Build from cards with all weights zero."""
        super().__init__()
        require_distinct(blocks)
        self.blocks = tuple(blocks)
        self.views = union_views(blocks)
        self._mean = nn.ParameterList([torch.zeros(block.feature_width) for block in blocks])
        self._weight = nn.ParameterList(
            [torch.zeros(len(self.views), block.feature_width) for block in blocks]
        )
        self._bias = nn.Parameter(torch.zeros(len(self.views)))
        self._gate = nn.ParameterList([torch.zeros(block.num_evidence) for block in blocks])
        self._gate_bias = nn.ParameterList([torch.zeros(1) for _ in blocks])
        self.requires_grad_(False)

    def forward(
        self,
        features: Sequence[Tensor],
        logits: Sequence[Tensor],
        evidence: Sequence[Tensor],
        available_NE: Tensor | None = None,
    ) -> FusionOutput:
        """Fuse N frames; arguments and errors as for ``ScoreFusion``, own logits are not used."""
        expect_rows(self.blocks, features, logits, evidence, available_NE)
        contributions_NEV = torch.stack(
            [
                (rows_ND - mean_D) @ weight_VD.T
                for rows_ND, mean_D, weight_VD in zip(
                    features, self._mean, self._weight, strict=True
                )
            ],
            dim=1,
        )
        id_logits_NE = torch.stack(
            [
                rows_NL @ gate_L + bias
                for rows_NL, gate_L, bias in zip(evidence, self._gate, self._gate_bias, strict=True)
            ],
            dim=1,
        )
        id_scores_NE = torch.sigmoid(id_logits_NE)
        if available_NE is not None:
            contributions_NEV = contributions_NEV * available_NE[..., None]
            id_scores_NE = id_scores_NE * available_NE
        summed_NV = contributions_NEV.sum(dim=1)
        logits_NV = summed_NV + self._bias
        return FusionOutput(
            log_probabilities_NV=torch.log_softmax(logits_NV, dim=1),
            logits_NV=logits_NV,
            id_scores_NE=id_scores_NE,
            block_logits_NB=summed_NV,
            contributions_NEB=contributions_NEV,
        )

    def explain(self, output: FusionOutput) -> tuple[Tensor, Tensor]:
        """Contributions (N, E, V) to the logits, and the remainder (N, V), which is the bias."""
        return output.contributions_NEB, output.logits_NV - output.block_logits_NB

    def named_weights(self) -> dict[str, Tensor]:
        """All weights by expert ids: the order does not matter."""
        names: dict[str, Tensor] = {}
        for row, view in enumerate(self.views):
            names[f"head/bias/{view}"] = self._bias.data[row : row + 1]
        for place, block in enumerate(self.blocks):
            names[f"head/{block.expert}/mean"] = self._mean[place].data
            for row, view in enumerate(self.views):
                names[f"head/{block.expert}/weight/{view}"] = self._weight[place].data[row]
            names[f"gate/{block.expert}/weight"] = self._gate[place].data
            names[f"gate/{block.expert}/bias"] = self._gate_bias[place].data
        return names
