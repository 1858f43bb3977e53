"""Laws of the union head: sums, order, missing experts, round trips."""

from itertools import permutations

import numpy as np
import pytest
import torch
from torch import Tensor

from shared.echo.expert import Block
from shared.errors import Code, EchoFedError
from shared.models.fusion_weights import build_fusion, copy_shared, fusion_to_bytes
from shared.models.union_head import UnionHead
from shared.testing.exports import fusion_card

BLOCKS = (
    Block("north.1", ("A4C", "A2C", "PLAX"), 7, 3),
    Block("south-2", ("A2C", "PSAX-AV"), 5, 4),
    Block("east/3", ("A4C", "A5C", "SC-4C"), 11, 2),
)
Rows = tuple[list[Tensor], list[Tensor], list[Tensor]]


def build(blocks: tuple[Block, ...]) -> UnionHead:
    """A head whose weights are drawn by name, so that any selection of experts agrees."""
    head = UnionHead(BLOCKS).double()
    generator = torch.Generator().manual_seed(1)
    for _, window in sorted(head.named_weights().items()):
        window.copy_(torch.randn(window.shape, generator=generator, dtype=torch.float64))
    other = UnionHead(blocks).double()
    assert copy_shared(head, other) == len(other.named_weights())
    return other


def draw(blocks: tuple[Block, ...]) -> Rows:
    generator = np.random.default_rng(0)
    drawn = {
        block.expert: [
            torch.from_numpy(generator.normal(size=(9, width)))
            for width in (block.feature_width, len(block.views), block.num_evidence)
        ]
        for block in BLOCKS
    }
    features, logits, evidence = zip(*(drawn[block.expert] for block in blocks), strict=True)
    return list(features), list(logits), list(evidence)


def test_contributions_and_bias_sum_to_the_logits() -> None:
    head = build(BLOCKS)
    output = head(*draw(BLOCKS))
    contributions_NEV, remainder_NV = head.explain(output)
    torch.testing.assert_close(contributions_NEV.sum(dim=1), output.block_logits_NB)
    torch.testing.assert_close(contributions_NEV.sum(dim=1) + remainder_NV, output.logits_NV)
    torch.testing.assert_close(remainder_NV, remainder_NV[:1].expand_as(remainder_NV))
    torch.testing.assert_close(
        output.log_probabilities_NV.exp().sum(dim=1), torch.ones(9, dtype=torch.float64)
    )


@pytest.mark.parametrize("order", list(permutations(range(3)))[1:])
def test_the_order_of_experts_does_not_matter(order: tuple[int, ...]) -> None:
    turned = tuple(BLOCKS[place] for place in order)
    one, other = build(BLOCKS)(*draw(BLOCKS)), build(turned)(*draw(turned))
    torch.testing.assert_close(one.log_probabilities_NV, other.log_probabilities_NV)
    torch.testing.assert_close(one.id_scores_NE[:, list(order)], other.id_scores_NE)


@pytest.mark.parametrize("gone", range(3))
def test_masking_an_expert_equals_the_head_without_it(gone: int) -> None:
    left = tuple(block for place, block in enumerate(BLOCKS) if place != gone)
    head, smaller = build(BLOCKS), build(left)
    available_NE = torch.ones(9, 3, dtype=torch.bool)
    available_NE[:, gone] = False
    masked, without = head(*draw(BLOCKS), available_NE), smaller(*draw(left))
    places = [head.views.index(view) for view in smaller.views]
    torch.testing.assert_close(masked.logits_NV[:, places], without.logits_NV)
    assert (masked.id_scores_NE[:, gone] == 0).all()


def test_all_experts_can_be_out_of_place_at_once() -> None:
    head = build(BLOCKS)
    for block in BLOCKS:
        head.named_weights()[f"gate/{block.expert}/weight"].fill_(1.0)
    features, logits, evidence = draw(BLOCKS)
    far = head(features, logits, [rows_NL - 100.0 for rows_NL in evidence])
    near = head(features, logits, [rows_NL + 100.0 for rows_NL in evidence])
    assert far.id_scores_NE.max() < 1e-9
    assert near.id_scores_NE.min() > 1 - 1e-9


def test_weights_read_back_are_equal() -> None:
    head = build(BLOCKS).float()
    weights = fusion_to_bytes(head)
    card = fusion_card(head, weights)
    again = build_fusion(card, weights)
    rows = [[array.float() for array in arrays] for arrays in draw(BLOCKS)]
    assert torch.equal(head(*rows).logits_NV, again(*rows).logits_NV)
    with pytest.raises(EchoFedError) as caught:
        build_fusion(card, weights[:-1] + b"x")
    assert caught.value.code is Code.CHECKPOINT_CORRUPT


def test_a_wrong_width_is_refused() -> None:
    features, logits, evidence = draw(BLOCKS)
    with pytest.raises(EchoFedError) as caught:
        build(BLOCKS)([features[0][:, :-1], *features[1:]], logits, evidence)
    assert caught.value.code is Code.SHAPE_MISMATCH
