"""Laws of the blend: a mean of its parts, order, missing experts, temperature, round trips."""

from itertools import permutations

import numpy as np
import pytest
import torch
from torch import Tensor

from shared.echo.expert import Block
from shared.errors import Code, EchoFedError
from shared.models.blend import HEAD_SHARE, Blend
from shared.models.fusion_weights import build_fusion, copy_shared, fusion_to_bytes
from shared.testing.exports import fusion_card

BLOCKS = (
    Block("north.1", ("A4C", "A2C", "PLAX"), 7, 3),
    Block("south-2", ("A2C", "PSAX-AV"), 5, 4),
    Block("east/3", ("A4C", "A5C", "SC-4C"), 11, 2),
)
Rows = tuple[list[Tensor], list[Tensor], list[Tensor]]


def build(blocks: tuple[Block, ...]) -> Blend:
    """A blend whose weights are drawn by name, so that any selection of experts agrees."""
    fusion = Blend(BLOCKS).double()
    generator = torch.Generator().manual_seed(1)
    for name, window in sorted(fusion.named_weights().items()):
        if not name.startswith(("scale/", "temperature/")):
            window.copy_(torch.randn(window.shape, generator=generator, dtype=torch.float64))
    fusion.named_weights()["temperature/score"].fill_(1.7)
    fusion.named_weights()["temperature/fused"].fill_(0.6)
    other = Blend(blocks).double()
    assert copy_shared(fusion, other) == len(other.named_weights())
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


def test_it_is_the_mean_of_its_parts() -> None:
    fusion, rows = build(BLOCKS), draw(BLOCKS)
    head, score = fusion.head(*rows).logits_NV, fusion.score(*rows).logits_NV / 1.7
    expected = (HEAD_SHARE * head + (1 - HEAD_SHARE) * score) / 0.6
    output = fusion(*rows)
    torch.testing.assert_close(output.logits_NV, expected)
    torch.testing.assert_close(output.id_scores_NE, fusion.head(*rows).id_scores_NE)
    torch.testing.assert_close(
        output.log_probabilities_NV.exp().sum(dim=1), torch.ones(9, dtype=torch.float64)
    )


def test_contributions_and_remainder_sum_to_the_logits() -> None:
    fusion = build(BLOCKS)
    output = fusion(*draw(BLOCKS))
    contributions_NEV, remainder_NV = fusion.explain(output)
    torch.testing.assert_close(contributions_NEV.sum(dim=1), output.block_logits_NB)
    torch.testing.assert_close(contributions_NEV.sum(dim=1) + remainder_NV, output.logits_NV)
    torch.testing.assert_close(remainder_NV, remainder_NV[:1].expand_as(remainder_NV))


@pytest.mark.parametrize("order", list(permutations(range(3)))[1:])
def test_the_order_of_experts_does_not_matter(order: tuple[int, ...]) -> None:
    turned = tuple(BLOCKS[place] for place in order)
    one, other = build(BLOCKS)(*draw(BLOCKS)), build(turned)(*draw(turned))
    torch.testing.assert_close(one.log_probabilities_NV, other.log_probabilities_NV)
    torch.testing.assert_close(one.id_scores_NE[:, list(order)], other.id_scores_NE)
    torch.testing.assert_close(one.contributions_NEB[:, list(order)], other.contributions_NEB)


@pytest.mark.parametrize("gone", range(3))
def test_a_masked_expert_adds_nothing(gone: int) -> None:
    left = tuple(block for place, block in enumerate(BLOCKS) if place != gone)
    fusion, smaller = build(BLOCKS), build(left)
    available_NE = torch.ones(9, 3, dtype=torch.bool)
    available_NE[:, gone] = False
    masked, without = fusion(*draw(BLOCKS), available_NE), smaller(*draw(left))
    places = [fusion.views.index(view) for view in smaller.views]
    torch.testing.assert_close(masked.logits_NV[:, places], without.logits_NV)
    assert (masked.id_scores_NE[:, gone] == 0).all()
    assert (masked.contributions_NEB[:, gone] == 0).all()
    lost = [place for place in range(len(fusion.views)) if place not in places]
    assert (masked.logits_NV[:, lost] == -torch.inf).all()
    assert not masked.log_probabilities_NV.isnan().any()


def test_a_temperature_does_not_change_the_answer_but_how_sure_it_is() -> None:
    warm, cold = build(BLOCKS), build(BLOCKS)
    warm.named_weights()["temperature/fused"].fill_(5.0)
    told_warm, told_cold = (fusion(*draw(BLOCKS)).log_probabilities_NV for fusion in (warm, cold))
    assert torch.equal(told_warm.argmax(dim=1), told_cold.argmax(dim=1))
    assert (told_warm.amax(dim=1) < told_cold.amax(dim=1)).all()


def test_weights_read_back_are_equal() -> None:
    fusion = build(BLOCKS).float()
    weights = fusion_to_bytes(fusion)
    card = fusion_card(fusion, weights)
    rows = [[array.float() for array in arrays] for arrays in draw(BLOCKS)]
    again = build_fusion(card, weights)
    assert torch.equal(fusion(*rows).logits_NV, again(*rows).logits_NV)
    with pytest.raises(EchoFedError) as caught:
        build_fusion(card, weights[:-1] + b"x")
    assert caught.value.code is Code.CHECKPOINT_CORRUPT


def test_a_frame_that_no_expert_saw_is_refused() -> None:
    with pytest.raises(EchoFedError) as caught:
        build(BLOCKS)(*draw(BLOCKS), torch.zeros(9, 3, dtype=torch.bool))
    assert caught.value.code is Code.FEATURES_INVALID
