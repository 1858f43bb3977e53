"""Score fusion of frozen experts: own logits, cross heads, gate and pooler, for any number of them.

Reference: Bransby et al. 2024 (arXiv 2407.21577), weighted score fusion; the skeleton is Wu et al.
2022 (arXiv 2204.03634). One departure: features and evidence are standardised by fixed means and
deviations of the training rows before they meet a trainable weight. The cross heads stay linear in
the features, so the family of functions is the paper's; raw inputs would make training depend on
each backbone's scale.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from shared.echo.expert import Block, FusionVariant
from shared.models.fused import FusionOutput, expect_rows, require_distinct, union_views
from shared.models.gate import Gate, Standardise
from shared.seeding import derive_seed


class ScoreFusion(nn.Module):
    """Weigh, add and pool the logits of frozen experts.

    Block i is the head of expert i. Expert j adds ``A_j * u_ij`` to it, where ``u_ii`` are its own
    frozen logits, ``u_ij`` a trainable linear map of its features (cross head) and ``A_j`` the id
    score: 1 (``sum``), a softmax gate over the features (``attention``) or over the layer-wise
    discrepancies (``discrepancy``). A union view takes the maximum over the blocks that own it.
    """

    def __init__(self, blocks: Sequence[Block], variant: FusionVariant, *, seed: int = 0) -> None:
        """Build from cards; first weights depend on seed and expert ids, not on the order."""
        super().__init__()
        require_distinct(blocks)
        self.blocks = tuple(blocks)
        self.variant: FusionVariant = variant
        self.views = union_views(blocks)
        self._offsets = _offsets(blocks)
        num = self._offsets[-1]
        self.cross = nn.ParameterList(
            [torch.empty(num - len(block.views), block.feature_width) for block in blocks]
        )
        self.cross_bias = nn.ParameterList([torch.empty(num - len(b.views)) for b in blocks])
        self.scale_features = nn.ModuleList([Standardise(b.feature_width) for b in blocks])
        self.scale_evidence = nn.ModuleList([Standardise(b.num_evidence) for b in blocks])
        self.gate: Gate | None = None
        if variant != "sum":
            self.gate = Gate([self._gate_width(block) for block in blocks])
        self._owner_B: Tensor
        self._owners_VO: Tensor
        owner = [place for place, block in enumerate(blocks) for _ in block.views]
        self.register_buffer("_owner_B", torch.tensor(owner), persistent=False)
        self.register_buffer("_owners_VO", _owner_columns(blocks, self.views), persistent=False)
        self._draw(seed)

    def forward(
        self,
        features: Sequence[Tensor],
        logits: Sequence[Tensor],
        evidence: Sequence[Tensor],
        available_NE: Tensor | None = None,
    ) -> FusionOutput:
        """Fuse N frames.

        Args:
            features: for each expert (N, D) after pooling, before dropout.
            logits: for each expert (N, C) of its own head.
            evidence: for each expert (N, L), higher = more at home.
            available_NE: False where an expert did not see the frame; its inputs are then ignored
                (they must be finite, zero by convention) and its head drops out.

        Raises:
            EchoFedError: SHAPE_MISMATCH, or FEATURES_INVALID for a frame that no expert saw.
        """
        expect_rows(self.blocks, features, logits, evidence, available_NE)
        scaled, scaled_evidence = self.scale_inputs(features, evidence)
        return self.fuse_scaled(scaled, logits, scaled_evidence, available_NE)

    def scale_inputs(
        self, features: Sequence[Tensor], evidence: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Standardise the inputs; training does it once for all rows."""
        return (
            [scale(rows) for scale, rows in zip(self.scale_features, features, strict=True)],
            [scale(rows) for scale, rows in zip(self.scale_evidence, evidence, strict=True)],
        )

    def fuse_scaled(
        self,
        features: Sequence[Tensor],
        logits: Sequence[Tensor],
        evidence: Sequence[Tensor],
        available_NE: Tensor | None = None,
    ) -> FusionOutput:
        """As ``forward``, for features and evidence from ``scale_inputs``; nothing is checked."""
        opinions_NEB = self._opinions(features, logits)
        id_scores_NE = self._id_scores(features, evidence, available_NE)
        contributions_NEB = id_scores_NE[..., None] * opinions_NEB
        if available_NE is None:
            block_logits_NB = contributions_NEB.sum(dim=1)
        else:
            absent_NB = ~available_NE[:, self._owner_B]
            contributions_NEB = contributions_NEB.masked_fill(absent_NB[:, None, :], 0.0)
            block_logits_NB = contributions_NEB.sum(dim=1).masked_fill(absent_NB, -torch.inf)
        logits_NV = self._by_owner(block_logits_NB).amax(dim=2)
        return FusionOutput(
            log_probabilities_NV=torch.log_softmax(logits_NV, dim=1),
            logits_NV=logits_NV,
            id_scores_NE=id_scores_NE,
            block_logits_NB=block_logits_NB,
            contributions_NEB=contributions_NEB,
        )

    @property
    def has_id_scores(self) -> bool:
        """Whether id scores are learnt; those of a plain sum are all one."""
        return self.gate is not None

    def explain(self, output: FusionOutput) -> tuple[Tensor, Tensor]:
        """Share every pooled logit among the experts.

        Returns:
            Contributions (N, E, V): those to the owning blocks times pooling responsibilities
            (equal owners of a maximum share it), and the remainder (N, V), which makes up the
            pooled logit: 0 for max pooling.
        """
        owned_NVO = self._by_owner(output.block_logits_NB)
        is_top_NVO = (owned_NVO == output.logits_NV[..., None]) & owned_NVO.isfinite()
        top_NVO = is_top_NVO.to(owned_NVO)
        responsibility_NVO = top_NVO / top_NVO.sum(dim=2, keepdim=True).clamp(min=1.0)
        padded_NEB = nn.functional.pad(output.contributions_NEB, (0, 1))
        parts_NEVO = padded_NEB[:, :, self._owners_VO] * responsibility_NVO[:, None]
        contributions_NEV = parts_NEVO.sum(dim=3)
        return contributions_NEV, output.logits_NV - contributions_NEV.sum(dim=1)

    @torch.no_grad()
    def fit_scales(
        self, features: Sequence[Tensor], evidence: Sequence[Tensor], weight_NE: Tensor
    ) -> None:
        """Fix the inputs' means and deviations by the training rows (weight zero: not seen)."""
        for place in range(len(self.blocks)):
            weight_N = weight_NE[:, place]
            for scales, rows in ((self.scale_features, features), (self.scale_evidence, evidence)):
                scale = scales[place]
                assert isinstance(scale, Standardise)
                scale.fit(rows[place], weight_N)

    def named_weights(self) -> dict[str, Tensor]:
        """All weights as windows into the parameters, by expert ids: the order does not matter."""
        names: dict[str, Tensor] = {}
        for place, block in enumerate(self.blocks):
            others = [other for other in self.blocks if other is not block]
            sizes = [len(other.views) for other in others]
            for kind, stacked in (("weight", self.cross[place]), ("bias", self.cross_bias[place])):
                for other, window in zip(others, stacked.data.split(sizes), strict=True):
                    names[f"cross/{block.expert}/{other.expert}/{kind}"] = window
            for what, scales in (
                ("features", self.scale_features),
                ("evidence", self.scale_evidence),
            ):
                for name, buffer in scales[place].named_buffers():
                    names[f"scale/{what}/{block.expert}/{name}"] = buffer
            if self.gate is not None:
                row = slice(place, place + 1)
                names[f"gate/first/{block.expert}/weight"] = self.gate.first[place].data
                names[f"gate/last/{block.expert}/weight"] = self.gate.last.data[row]
                names[f"gate/last/{block.expert}/bias"] = self.gate.last_bias.data[row]
        if self.gate is not None:
            names["gate/first/bias"] = self.gate.first_bias.data
            names["gate/second/weight"] = self.gate.second.data
            names["gate/second/bias"] = self.gate.second_bias.data
        return names

    def _gate_width(self, block: Block) -> int:
        return block.feature_width if self.variant == "attention" else block.num_evidence

    def _draw(self, seed: int) -> None:
        """Uniform in +-1/sqrt(fan-in), biases zero; every tensor from a stream of its own name."""
        fan_first = sum(self._gate_width(block) for block in self.blocks)
        for name, window in self.named_weights().items():
            if name.startswith("scale/"):
                continue
            if name.endswith("/bias"):
                window.zero_()
                continue
            fan = fan_first if name.startswith("gate/first") else window.shape[-1]
            generator = torch.Generator().manual_seed(derive_seed(seed, name))
            bound = 1.0 / math.sqrt(max(fan, 1))
            window.copy_(torch.empty(window.shape).uniform_(-bound, bound, generator=generator))

    def _opinions(self, scaled: Sequence[Tensor], logits: Sequence[Tensor]) -> Tensor:
        """Each expert's logits for the views of all heads (N, E, B), by own head or cross head."""
        opinions = []
        for place, (rows_ND, own_NC) in enumerate(zip(scaled, logits, strict=True)):
            foreign = torch.addmm(self.cross_bias[place], rows_ND, self.cross[place].T)
            start = self._offsets[place]
            opinions.append(torch.cat([foreign[:, :start], own_NC, foreign[:, start:]], dim=1))
        return torch.stack(opinions, dim=1)

    def _id_scores(
        self, features: Sequence[Tensor], evidence: Sequence[Tensor], available_NE: Tensor | None
    ) -> Tensor:
        if self.gate is None:
            ones_NE = features[0].new_ones(len(features[0]), len(self.blocks))
            return ones_NE if available_NE is None else available_NE.to(ones_NE)
        inputs = features if self.variant == "attention" else evidence
        id_logits_NE = self.gate(inputs, available_NE)
        if available_NE is not None:
            id_logits_NE = id_logits_NE.masked_fill(~available_NE, -torch.inf)
        return torch.softmax(id_logits_NE, dim=1)

    def _by_owner(self, block_logits_NB: Tensor) -> Tensor:
        """Block logits by union view (N, V, O), ``-inf`` where a view has fewer owners than O."""
        padded_NB = nn.functional.pad(block_logits_NB, (0, 1), value=-torch.inf)
        return padded_NB[:, self._owners_VO]


def _offsets(blocks: Sequence[Block]) -> tuple[int, ...]:
    """Where each block begins among the views of all heads, and their number."""
    starts = [0]
    for block in blocks:
        starts.append(starts[-1] + len(block.views))
    return tuple(starts)


def _owner_columns(blocks: Sequence[Block], views: Sequence[str]) -> Tensor:
    """For each union view the block columns that own it (V, O), padded by one past the last."""
    columns = [view for block in blocks for view in block.views]
    owners = [[place for place, name in enumerate(columns) if name == view] for view in views]
    most = max(len(places) for places in owners)
    return torch.tensor([p + [len(columns)] * (most - len(p)) for p in owners])
