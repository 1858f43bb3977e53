"""The scorecard: what counts as home and as foreign, and figures that scikit-learn would give."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score, roc_curve

from aggregator.fusion.evaluate import fuse_rows, is_scored
from aggregator.fusion.fit import fit_union_head
from aggregator.fusion.rows import held_out_rows, own_training_rows
from aggregator.fusion.scorecard import (
    FUSED_ID,
    ID_SCALAR,
    ID_SCORE,
    KINDS,
    NEAREST,
    Scorecard,
    fused_id_scalar,
    scorecard,
    separation,
)
from aggregator.joined_rows import JoinedRows, select_rows
from shared.echo.ontology import load_ontology
from shared.errors import Code, EchoFedError
from shared.evidence import EVIDENCE
from shared.models.fusion import ScoreFusion
from shared.models.union_head import UnionHead
from shared.testing.exports import GaussianWorld

Homes = Mapping[str, tuple[str, ...]]


@pytest.fixture(scope="session")
def homes(world: GaussianWorld) -> Homes:
    return {world.expert(site).id: (f"{site}/{site}-echo",) for site in world.views}


@pytest.fixture(scope="session")
def ridge(joined: JoinedRows) -> UnionHead:
    return fit_union_head(joined, held_out_rows(joined), balance=True)


@pytest.fixture(scope="session")
def found(joined: JoinedRows, homes: Homes, ridge: UnionHead) -> Scorecard:
    return scorecard(joined, homes, {"ridge": ridge, "attention": gate(joined)})


def gate(joined: JoinedRows) -> ScoreFusion:
    return ScoreFusion(joined.blocks, "attention", seed=1).eval()


def test_auroc_and_fpr95_are_those_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    home_N, foreign_N = generator.normal(1.0, 1.0, 200), generator.normal(0.0, 2.0, 300)
    one = separation(home_N, foreign_N)
    assert one is not None
    is_home_N = np.repeat([1, 0], [200, 300])
    value_N = np.concatenate([home_N, foreign_N])
    fpr, tpr, _ = roc_curve(is_home_N, value_N, drop_intermediate=False)
    assert one.auroc == pytest.approx(roc_auc_score(is_home_N, value_N))
    assert one.fpr95 == pytest.approx(fpr[tpr >= 0.95][0], abs=1 / 200)
    assert (one.num_home, one.num_foreign) == (200, 300)


def test_equal_values_tell_nothing_and_separate_ones_all() -> None:
    same, apart = separation(np.ones(9), np.ones(4)), separation(np.ones(9), np.zeros(4))
    assert same is not None
    assert apart is not None
    assert (same.auroc, same.fpr95) == (0.5, 1.0)
    assert (apart.auroc, apart.fpr95) == (1.0, 0.0)
    assert separation(np.ones(9), np.zeros(0)) is None


def test_rows_are_split_into_home_new_scanner_and_unseen_view(
    found: Scorecard, joined: JoinedRows
) -> None:
    """North owns A4C, A2C, PLAX; of south only A4C, of east all but A3C; 20 test rows a view."""
    north = found.experts[joined.blocks[0].expert]["mahalanobis"]
    assert north["new scanner"].num_home == north["unseen view"].num_home == 60
    assert north["new scanner"].num_foreign == 20 + 40
    assert north["unseen view"].num_foreign == 40 + 20


def test_without_an_expert_its_dataset_is_foreign_and_the_others_home(
    found: Scorecard, joined: JoinedRows
) -> None:
    """Without south's, nobody owns its short axes; A4C is north's."""
    south = found.experts[joined.blocks[1].expert][FUSED_ID + "ridge"]
    assert (south["new scanner"].num_home, south["new scanner"].num_foreign) == (120, 20)
    assert (south["unseen view"].num_home, south["unseen view"].num_foreign) == (120, 40)


def test_every_source_has_figures_and_the_average_is_their_mean(
    found: Scorecard, joined: JoinedRows
) -> None:
    sources = {
        *EVIDENCE.names(),
        *(NEAREST + name for name in EVIDENCE.names()),
        *(kind + variant for kind in (ID_SCORE, FUSED_ID) for variant in ("ridge", "attention")),
        "discrepancy",
        ID_SCALAR,
    }
    assert set(found.average) == sources
    assert found.refused == {}
    for kind in KINDS:
        by_expert = [found.experts[b.expert]["vim"][kind].fpr95 for b in joined.blocks]
        assert found.average["vim"][kind]["fpr95"] == pytest.approx(np.mean(by_expert))


def test_domains_that_lie_apart_are_told_apart(found: Scorecard) -> None:
    for source in ("mahalanobis", "discrepancy", ID_SCORE + "ridge"):
        assert found.average[source]["new scanner"]["auroc"] > 0.9, source


def test_id_scores_of_the_others_do_not_know_the_expert_left_out(
    joined: JoinedRows, homes: Homes, ridge: UnionHead
) -> None:
    """Spoilt validation rows of south change nothing in what is said without south's expert."""
    place = 1
    rows = joined.datasets[place]
    is_val_N = is_scored(rows, "val")
    spoilt = [array.copy() for array in rows.evidence]
    for array in spoilt:
        array[is_val_N] = -array[is_val_N]
    datasets = [*joined.datasets]
    datasets[place] = replace(rows, evidence=tuple(spoilt))
    other = scorecard(replace(joined, datasets=tuple(datasets)), homes, {"ridge": ridge})
    expert = joined.blocks[place].expert
    same = scorecard(joined, homes, {"ridge": ridge}).experts[expert][FUSED_ID + "ridge"]
    assert other.experts[expert][FUSED_ID + "ridge"] == same


def test_the_id_scalar_knows_nothing_of_the_dataset_left_out(
    joined: JoinedRows, homes: Homes
) -> None:
    """Spoilt training rows of south change nothing in what is said without south's expert."""
    rows = joined.datasets[1]
    is_train_N = is_scored(rows, "train")
    spoilt = tuple(np.where(is_train_N[:, None], -array, array) for array in rows.evidence)
    changed = replace(joined, datasets=tuple(
        replace(one, evidence=spoilt) if one is rows else one for one in joined.datasets
    ))  # fmt: skip
    expert = joined.blocks[1].expert
    found = scorecard(joined, homes, {}).experts[expert][ID_SCALAR]
    assert scorecard(changed, homes, {}).experts[expert][ID_SCALAR] == found
    assert found["new scanner"].auroc > 0.9


def test_the_fused_scalar_is_the_chance_that_not_none_is_right(joined: JoinedRows) -> None:
    id_scores_NE = np.array([[0.5, 0.5, 0.0], [0.0, 0.0, 0.0], [0.2, 1.0, 0.3]])
    assert fused_id_scalar(UnionHead(joined.blocks), id_scores_NE) == pytest.approx([0.75, 0, 1])
    assert fused_id_scalar(gate(joined), id_scores_NE) == pytest.approx([0.5, 0, 1])


def test_an_expert_with_too_few_patients_is_named_and_the_rest_stands(
    joined: JoinedRows, homes: Homes, ridge: UnionHead
) -> None:
    rows = joined.datasets[0]
    few = replace(rows, patient_N=rows.patient_N % 4)
    changed = replace(joined, datasets=(few, *joined.datasets[1:]))
    north, south = (block.expert for block in joined.blocks[:2])
    found = scorecard(changed, homes, {"ridge": ridge})
    assert found.refused == {north: "TOO_FEW_PATIENTS"}
    assert "mahalanobis" not in found.experts[north]
    assert {"discrepancy", ID_SCORE + "ridge"} <= set(found.experts[north])
    assert "mahalanobis" in found.experts[south]


def test_an_expert_that_did_not_see_a_dataset_is_not_asked_about_it(
    incomplete: JoinedRows, homes: Homes
) -> None:
    """East has not seen north: only south's rows are foreign to it, all of unseen views."""
    ridge = fit_union_head(incomplete, held_out_rows(incomplete), balance=True)
    east = scorecard(incomplete, homes, {"ridge": ridge}).experts[incomplete.blocks[2].expert]
    assert set(east["energy"]) == {"unseen view"}
    assert east["energy"]["unseen view"].num_foreign == 60


def test_one_expert_alone_has_no_foreign_rows(
    joined_by_number: Mapping[int, JoinedRows], homes: Homes
) -> None:
    alone = joined_by_number[1]
    ridge = fit_union_head(alone, held_out_rows(alone), balance=True)
    assert not any(scorecard(alone, homes, {"ridge": ridge}).average.values())


def test_training_rows_of_an_expert_are_its_own_plain_labelled_ones(
    joined: JoinedRows, homes: Homes
) -> None:
    own = own_training_rows(joined, 0, homes[joined.blocks[0].expert])
    rows = joined.datasets[0]
    kept = select_rows(rows, is_scored(rows, "train"))
    assert np.array_equal(own.features_ND, kept.features[0].astype(np.float64))
    assert np.array_equal(own.class_N, kept.label_N)
    with pytest.raises(EchoFedError) as caught:
        own_training_rows(joined, 0, ())
    assert caught.value.code is Code.FRAMES_MISSING


def test_the_energy_speaks_in_the_id_score(joined: JoinedRows, ridge: UnionHead) -> None:
    """Own logits that all rise move the id score as their weight says, and no probability."""
    rows = select_rows(joined.datasets[0], is_scored(joined.datasets[0], "test"))
    risen = replace(rows, logits=tuple(own_NC + 1.0 for own_NC in rows.logits))
    before, after = fuse_rows(ridge, rows), fuse_rows(ridge, risen)
    weight_E = [float(ridge.named_weights()[f"gate/{b.expert}/energy"]) for b in ridge.blocks]
    moved_NE = torch.logit(torch.from_numpy(after.id_scores_NE)) - torch.logit(
        torch.from_numpy(before.id_scores_NE)
    )
    np.testing.assert_allclose(moved_NE[:, 0], weight_E[0], rtol=1e-2, atol=1e-3)
    assert np.array_equal(before.log_probabilities_NV, after.log_probabilities_NV)


def test_rows_called_other_are_home_to_the_expert_that_learnt_them_and_neither_to_others(
    joined: JoinedRows, homes: Homes
) -> None:
    """North's third label is other, a column of its own head; east and south own what it leaves."""
    blocks = (replace(joined.blocks[0], views=("A4C", "A2C", "other")), *joined.blocks[1:])
    leaves = [leaf for view in ("A4C", "A2C") for leaf in load_ontology().leaves(view)]
    words = (("A4C",), ("A2C",), ("other",))
    north = replace(joined.datasets[0], label_views=words, annotated=tuple(leaves))
    relabelled = replace(joined, blocks=blocks, datasets=(north, *joined.datasets[1:]))
    found = scorecard(relabelled, homes, {}).experts
    north_home = found[blocks[0].expert]["mahalanobis"]["new scanner"].num_home
    assert north_home == 60
    assert found[blocks[1].expert]["mahalanobis"]["unseen view"].num_foreign == 20 + 60
