"""Laws of the score fusion: sums, order, missing experts, round trips."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
from torch import Tensor

from shared.echo.expert import Block, FusionVariant
from shared.errors import Code, EchoFedError
from shared.models.fused import FusionOutput, union_views
from shared.models.fusion import ScoreFusion
from shared.models.fusion_weights import build_fusion, copy_shared, fusion_to_bytes
from shared.testing.exports import fusion_card

VARIANTS: tuple[FusionVariant, ...] = ("sum", "attention", "discrepancy")
BLOCKS = (
    Block("north.1", ("A4C", "A2C", "PLAX"), 7, 3),
    Block("south-2", ("A2C", "PSAX-AV"), 5, 4),
    Block("east/3", ("A4C", "A5C", "A2C", "SC-4C"), 11, 2),
    Block("west-4", ("PLAX", "PSAX-PM"), 3, 1),
)
Rows = tuple[list[Tensor], list[Tensor], list[Tensor]]
every_variant = pytest.mark.parametrize("variant", VARIANTS)
every_number = pytest.mark.parametrize("num", range(1, 5))


def build(blocks: tuple[Block, ...], variant: FusionVariant) -> ScoreFusion:
    fusion = ScoreFusion(blocks, variant, seed=3).double()
    generator = torch.Generator().manual_seed(1)
    for name, window in sorted(fusion.named_weights().items()):
        if not name.startswith("scale"):
            window.copy_(torch.randn(window.shape, generator=generator, dtype=torch.float64))
    return fusion


def draw(blocks: tuple[Block, ...], num_rows: int = 9) -> Rows:
    generator = np.random.default_rng(0)
    rows = [
        [
            torch.from_numpy(generator.normal(size=(num_rows, width)) * 3)
            for width in (block.feature_width, len(block.views), block.num_evidence)
        ]
        for block in blocks
    ]
    features, logits, evidence = (list(column) for column in zip(*rows, strict=True))
    return features, logits, evidence


def pick(rows: Rows, order: tuple[int, ...]) -> Rows:
    features, logits, evidence = ([column[place] for place in order] for column in rows)
    return features, logits, evidence


def columns(fusion: ScoreFusion) -> list[tuple[str, str]]:
    return [(block.expert, view) for block in fusion.blocks for view in block.views]


@every_variant
@every_number
def test_contributions_sum_to_each_block_logit(variant: FusionVariant, num: int) -> None:
    blocks = BLOCKS[:num]
    output = build(blocks, variant)(*draw(blocks))
    torch.testing.assert_close(
        output.contributions_NEB.sum(dim=1), output.block_logits_NB, rtol=0, atol=0
    )


@every_variant
@every_number
def test_a_pooled_logit_is_its_contributions_plus_a_remainder_of_zero(
    variant: FusionVariant, num: int
) -> None:
    blocks = BLOCKS[:num]
    fusion = build(blocks, variant)
    output = fusion(*draw(blocks))
    contributions_NEV, remainder_NV = fusion.explain(output)
    torch.testing.assert_close(contributions_NEV.sum(dim=1) + remainder_NV, output.logits_NV)
    torch.testing.assert_close(remainder_NV, torch.zeros_like(remainder_NV), rtol=0, atol=1e-12)


def test_a_pooled_view_is_the_maximum_of_the_blocks_that_own_it() -> None:
    fusion = build(BLOCKS, "discrepancy")
    output = fusion(*draw(BLOCKS))
    for place, view in enumerate(fusion.views):
        owned = [at for at, (_, name) in enumerate(columns(fusion)) if name == view]
        assert torch.equal(output.logits_NV[:, place], output.block_logits_NB[:, owned].amax(dim=1))


def test_blocks_that_tie_share_the_responsibility() -> None:
    blocks = (Block("a", ("A4C",), 2, 1), Block("b", ("A4C",), 2, 1))
    fusion = ScoreFusion(blocks, "sum").double()
    zeros = [torch.zeros(1, 2).double()] * 2
    logits = [torch.full((1, 1), 2.0).double()] * 2
    output = fusion(zeros, logits, [torch.zeros(1, 1).double()] * 2)
    contributions_NEV, _ = fusion.explain(output)
    assert contributions_NEV[0, :, 0].tolist() == [1.0, 1.0]


@every_variant
def test_an_id_score_is_a_share_of_one_or_one_for_the_sum(variant: FusionVariant) -> None:
    id_scores_NE = build(BLOCKS, variant)(*draw(BLOCKS)).id_scores_NE
    if variant == "sum":
        assert torch.equal(id_scores_NE, torch.ones_like(id_scores_NE))
    else:
        assert (id_scores_NE >= 0).all()
        torch.testing.assert_close(id_scores_NE.sum(dim=1), torch.ones(9).double())


@every_variant
@pytest.mark.parametrize("order", list(permutations(range(4)))[1::5])
def test_the_order_of_experts_does_not_matter(
    variant: FusionVariant, order: tuple[int, ...]
) -> None:
    fusion = build(BLOCKS, variant)
    shuffled = ScoreFusion(tuple(BLOCKS[place] for place in order), variant).double()
    assert copy_shared(fusion, shuffled) == len(fusion.named_weights())
    rows = draw(BLOCKS)
    one, other = fusion(*rows), shuffled(*pick(rows, order))
    torch.testing.assert_close(one.log_probabilities_NV, other.log_probabilities_NV)
    torch.testing.assert_close(one.id_scores_NE[:, list(order)], other.id_scores_NE)
    parts, _ = fusion.explain(one)
    shuffled_parts, _ = shuffled.explain(other)
    torch.testing.assert_close(parts[:, list(order)], shuffled_parts)


@every_variant
def test_first_weights_do_not_depend_on_the_order_of_experts(variant: FusionVariant) -> None:
    one = ScoreFusion(BLOCKS, variant, seed=5).named_weights()
    other = ScoreFusion(BLOCKS[::-1], variant, seed=5).named_weights()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    third = ScoreFusion(BLOCKS, variant, seed=6).named_weights()
    assert any(not torch.equal(one[name], third[name]) for name in one)


def without(output: FusionOutput, fusion: ScoreFusion, expert: str) -> list[int]:
    return [at for at, (name, _) in enumerate(columns(fusion)) if name != expert]


@every_variant
@pytest.mark.parametrize("gone", range(4))
def test_masking_an_expert_equals_building_the_fusion_without_it(
    variant: FusionVariant, gone: int
) -> None:
    fusion = build(BLOCKS, variant)
    kept = tuple(place for place in range(4) if place != gone)
    smaller = ScoreFusion(tuple(BLOCKS[place] for place in kept), variant).double()
    assert copy_shared(fusion, smaller) == len(smaller.named_weights())
    rows = draw(BLOCKS)
    available_NE = torch.ones(9, 4, dtype=torch.bool)
    available_NE[:, gone] = False
    masked, built = fusion(*rows, available_NE), smaller(*pick(rows, kept))
    here = [fusion.views.index(view) for view in smaller.views]
    torch.testing.assert_close(masked.log_probabilities_NV[:, here], built.log_probabilities_NV)
    torch.testing.assert_close(masked.id_scores_NE[:, list(kept)], built.id_scores_NE)
    assert (masked.id_scores_NE[:, gone] == 0).all()
    mine = without(masked, fusion, BLOCKS[gone].expert)
    lost = [at for at in range(len(columns(fusion))) if at not in mine]
    assert (masked.block_logits_NB[:, lost] == -torch.inf).all()
    assert (masked.contributions_NEB[..., lost] == 0).all()
    torch.testing.assert_close(masked.block_logits_NB[:, mine], built.block_logits_NB)
    parts, remainder = fusion.explain(masked)
    smaller_parts, _ = smaller.explain(built)
    torch.testing.assert_close(parts[:, list(kept)][..., here], smaller_parts)
    assert not parts.isnan().any()
    assert not remainder.isnan().any()


def test_a_view_whose_only_owner_is_missing_is_impossible() -> None:
    fusion = build(BLOCKS, "attention")
    available_NE = torch.tensor([[True, True, True, False]]).expand(9, 4)
    output = fusion(*draw(BLOCKS), available_NE)
    lost = fusion.views.index("PSAX-PM")
    assert (output.log_probabilities_NV[:, lost] == -torch.inf).all()
    torch.testing.assert_close(output.log_probabilities_NV.exp().sum(1), torch.ones(9).double())


@every_variant
def test_masked_rows_have_finite_gradients(variant: FusionVariant) -> None:
    fusion = ScoreFusion(BLOCKS, variant).double()
    available_NE = torch.rand(9, 4, generator=torch.Generator().manual_seed(0)) > 0.5
    available_NE[:, 0] = True
    output = fusion(*draw(BLOCKS), available_NE)
    (-output.log_probabilities_NV[:, fusion.views.index("A4C")].sum()).backward()
    assert all(
        parameter.grad is not None and parameter.grad.isfinite().all()
        for parameter in fusion.parameters()
    )


@every_variant
@every_number
def test_weights_read_back_are_equal_in_any_order(variant: FusionVariant, num: int) -> None:
    blocks = BLOCKS[:num]
    fusion = ScoreFusion(blocks, variant, seed=2)
    rows = tuple([column.float() for column in part] for part in draw(blocks))
    fusion.fit_scales(rows[0], rows[2], torch.ones(9, num))
    weights = fusion_to_bytes(fusion)
    card = fusion_card(fusion, weights)
    expected = fusion(*rows).log_probabilities_NV
    torch.testing.assert_close(build_fusion(card, weights)(*rows).log_probabilities_NV, expected)
    turned = build_fusion(replace(card, blocks=blocks[::-1]), weights)
    turned_rows = tuple(column[::-1] for column in rows)
    torch.testing.assert_close(turned(*turned_rows).log_probabilities_NV, expected)


def test_scales_take_out_location_and_scale_of_the_inputs() -> None:
    rows = draw(BLOCKS, 50)
    fusion = ScoreFusion(BLOCKS, "discrepancy", seed=1).double()
    fusion.fit_scales(rows[0], rows[2], torch.ones(50, 4))
    other = ScoreFusion(BLOCKS, "discrepancy", seed=1).double()
    stretched = [40 * column - 7 for column in rows[0]], [100 * c + 3 for c in rows[2]]
    other.fit_scales(*stretched, torch.ones(50, 4))
    torch.testing.assert_close(
        fusion(*rows).logits_NV, other(stretched[0], rows[1], stretched[1]).logits_NV
    )


def test_a_row_of_weight_zero_and_a_constant_channel_do_no_harm_to_scales() -> None:
    rows = draw(BLOCKS[:1], 20)
    features = torch.cat([rows[0][0][:, :6], torch.full((20, 1), 4.0).double()], dim=1)
    weight_NE = torch.ones(20, 1).double()
    weight_NE[0] = 0
    features[0] = 1e6
    fusion = ScoreFusion(BLOCKS[:1], "sum").double()
    fusion.fit_scales([features], rows[2], weight_NE)
    scaled = fusion.scale_features[0](features)[1:]
    assert scaled.isfinite().all()
    torch.testing.assert_close(scaled[:, :6].square().mean(dim=0), torch.ones(6).double())
    assert scaled[:, 6].abs().max() < 1e-9


def test_the_union_follows_the_ontology() -> None:
    assert union_views(BLOCKS) == union_views(BLOCKS[::-1])
    assert union_views(BLOCKS)[:3] == ("A4C", "A5C", "A2C")


def test_foreign_weights_are_refused() -> None:
    fusion = ScoreFusion(BLOCKS, "sum")
    weights = fusion_to_bytes(fusion)
    card = fusion_card(fusion, weights)
    with pytest.raises(EchoFedError) as altered:
        build_fusion(card, weights[:-4] + b"\1\1\1\1")
    with pytest.raises(EchoFedError) as misfit:
        build_fusion(replace(card, variant="attention"), weights)
    assert altered.value.code == misfit.value.code == Code.CHECKPOINT_CORRUPT


def test_a_card_with_a_view_that_no_expert_owns_is_refused() -> None:
    fusion = ScoreFusion(BLOCKS, "sum")
    weights = fusion_to_bytes(fusion)
    card = fusion_card(fusion, weights)
    with pytest.raises(EchoFedError) as unowned:
        build_fusion(replace(card, views=(*card.views, "SSN")), weights)
    assert unowned.value.code == Code.CHECKPOINT_CORRUPT


def test_wrong_inputs_have_their_codes() -> None:
    fusion = build(BLOCKS, "sum")
    features, logits, evidence = draw(BLOCKS)
    with pytest.raises(EchoFedError) as fewer:
        fusion(features[:3], logits, evidence)
    with pytest.raises(EchoFedError) as narrow:
        fusion([features[0][:, :2], *features[1:]], logits, evidence)
    with pytest.raises(EchoFedError) as unseen:
        fusion(features, logits, evidence, torch.zeros(9, 4, dtype=torch.bool))
    assert fewer.value.code == narrow.value.code == Code.SHAPE_MISMATCH
    assert unseen.value.code == Code.FEATURES_INVALID
    with pytest.raises(EchoFedError) as twice:
        ScoreFusion((BLOCKS[0], BLOCKS[0]), "sum")
    with pytest.raises(EchoFedError) as none:
        ScoreFusion((), "sum")
    assert twice.value.code == Code.DUPLICATE_REPLY
    assert none.value.code == Code.EXPERT_UNKNOWN
