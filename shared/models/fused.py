"""What every fusion of experts takes and says, whatever is inside."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from shared.echo.expert import Block
from shared.echo.ontology import load_ontology
from shared.errors import Code, EchoFedError
from shared.shapes import expect


@dataclass(frozen=True, slots=True, eq=False)
class FusionOutput:
    """What the fusion says of N frames; B runs over the views of all heads, V over union views.

    Args:
        log_probabilities_NV: natural logarithms over the union views.
        logits_NV: pooled logits; ``-inf`` for a view all of whose owners are unavailable.
        id_scores_NE: the gate's weight of each expert, in [0, 1]; zero where unavailable.
        block_logits_NB: logits of the views of every head; ``-inf`` for the head of an unavailable
            expert.
        contributions_NEB: what each expert adds to each block logit; they sum to it over E.
    """

    log_probabilities_NV: Tensor
    logits_NV: Tensor
    id_scores_NE: Tensor
    block_logits_NB: Tensor
    contributions_NEB: Tensor


def union_views(blocks: Sequence[Block]) -> tuple[str, ...]:
    """All views of all heads in the order of the ontology."""
    return load_ontology().order(view for block in blocks for view in block.views)


def require_distinct(blocks: Sequence[Block]) -> None:
    """Refuse no expert at all, and an expert that stands twice.

    Raises:
        EchoFedError: EXPERT_UNKNOWN or DUPLICATE_REPLY.
    """
    if not blocks:
        raise EchoFedError(Code.EXPERT_UNKNOWN, "there is no expert to fuse", "train one first")
    names = [block.expert for block in blocks]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise EchoFedError(
            Code.DUPLICATE_REPLY, f"expert {twice[0]} stands twice in a fusion", "name it once"
        )


def expect_rows(
    blocks: Sequence[Block],
    features: Sequence[Tensor],
    logits: Sequence[Tensor],
    evidence: Sequence[Tensor],
    available_NE: Tensor | None,
) -> None:
    """Check what N frames bring into a fusion of these experts.

    Raises:
        EchoFedError: SHAPE_MISMATCH, or FEATURES_INVALID for a frame that no expert saw.
    """
    num = len(blocks)
    if not len(features) == len(logits) == len(evidence) == num:
        raise EchoFedError(
            Code.SHAPE_MISMATCH,
            f"the fusion has {num} experts, the inputs are for "
            f"{len(features)}, {len(logits)} and {len(evidence)}",
            "pass features, logits and evidence of every expert in the order of the blocks",
        )
    rows = features[0].shape[0]
    for place, block in enumerate(blocks):
        expect(features[place], "N D", N=rows, D=block.feature_width)
        expect(logits[place], "N C", N=rows, C=len(block.views))
        expect(evidence[place], "N L", N=rows, L=block.num_evidence)
    if available_NE is None:
        return
    expect(available_NE, "N E", N=rows, E=num)
    if not bool(available_NE.any(dim=1).all()):
        raise EchoFedError(
            Code.FEATURES_INVALID, "a frame was seen by no expert", "leave such frames out"
        )
