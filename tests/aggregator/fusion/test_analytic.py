"""Closed forms: equal to their pooled textbook form, whatever the order and whoever left."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge

from aggregator.fusion.analytic import (
    LinearHead,
    fit_discriminant,
    fit_heads,
    fit_nearest_mean,
    fit_ridge,
)
from aggregator.fusion.evaluate import is_scored
from aggregator.fusion.report import compare
from aggregator.fusion.sums import FeatureSpace, RowSums, pool, sum_rows
from aggregator.joined_rows import DatasetRows, JoinedRows, select_rows
from shared.echo.ontology import load_ontology
from shared.errors import Code, EchoFedError

every_form = pytest.mark.parametrize("fit", [fit_ridge, fit_discriminant, fit_nearest_mean])
Fit = Callable[..., LinearHead]


def sums_of(joined: JoinedRows, space: FeatureSpace) -> list[RowSums]:
    return [sum_rows(rows, space) for rows in joined.datasets]


def pooled_rows(joined: JoinedRows) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Columns and places of the union views of all labelled plain training rows."""
    space = FeatureSpace(joined.blocks)
    columns, targets = [], []
    for rows in joined.datasets:
        kept = select_rows(rows, is_scored(rows, "train"))
        columns.append(space.columns(kept.features))
        places = [space.views.index(views[0]) for views in rows.label_views]
        targets.append(np.array(places)[kept.label_N])
    return np.concatenate(columns), np.concatenate(targets)


@pytest.mark.parametrize("ridge", [1e-4, 0.1])
def test_ridge_equals_ridge_regression_on_the_pooled_rows(joined: JoinedRows, ridge: float) -> None:
    space = FeatureSpace(joined.blocks)
    head = fit_ridge(sums_of(joined, space), space, ridge=ridge, balance=False)
    columns_ND, target_N = pooled_rows(joined)
    scale_D = np.sqrt(((columns_ND - columns_ND.mean(axis=0)) ** 2).sum(axis=0))
    textbook = Ridge(alpha=ridge, solver="cholesky")
    textbook.fit(columns_ND / scale_D, np.eye(len(space.views))[target_N])
    test = space.columns(joined.datasets[1].features)
    np.testing.assert_allclose(
        head.scores(joined.datasets[1]), textbook.predict(test / scale_D), atol=1e-8
    )


def test_discriminant_equals_linear_discriminant_analysis_of_the_pooled_rows(
    joined: JoinedRows,
) -> None:
    space = FeatureSpace(joined.blocks)
    head = fit_discriminant(sums_of(joined, space), space, ridge=1e-12, balance=False)
    columns_ND, target_N = pooled_rows(joined)
    num = len(space.views)
    shares = np.bincount(target_N, minlength=num) / len(target_N)
    # Priors also weigh the textbook's covariance: give it the true shares, take them off after.
    textbook = LinearDiscriminantAnalysis(solver="lsqr", priors=shares).fit(columns_ND, target_N)
    expected = textbook.decision_function(columns_ND) - np.log(shares)
    scores = (columns_ND - head.mean_D) @ head.weight_DV + head.bias_V
    np.testing.assert_allclose(
        scores - scores[:, :1], expected - expected[:, :1], rtol=1e-6, atol=1e-6
    )


@every_form
def test_the_order_of_datasets_does_not_matter(joined: JoinedRows, fit: Fit) -> None:
    space = FeatureSpace(joined.blocks)
    sums = sums_of(joined, space)
    told = fit(sums, space, ridge=0.01, balance=True).scores(joined.datasets[0])
    turned = fit(sums[::-1], space, ridge=0.01, balance=True).scores(joined.datasets[0])
    np.testing.assert_allclose(told, turned, atol=1e-8)


@every_form
def test_a_dataset_taken_out_was_never_there(joined: JoinedRows, fit: Fit) -> None:
    space = FeatureSpace(joined.blocks)
    sums = sums_of(joined, space)
    left = fit([one for one in sums if one is not sums[1]], space, ridge=0.01, balance=True)
    others = replace(joined, datasets=(joined.datasets[0], joined.datasets[2]))
    never = fit(sums_of(others, space), space, ridge=0.01, balance=True)
    np.testing.assert_array_equal(left.weight_DV, never.weight_DV)


def test_subtracting_a_dataset_from_the_total_undoes_adding_it(joined: JoinedRows) -> None:
    space = FeatureSpace(joined.blocks)
    one, two, three = sums_of(joined, space)
    total = RowSums(
        "all",
        one.available,
        one.num_V + two.num_V + three.num_V - two.num_V,
        one.sum_VD + two.sum_VD + three.sum_VD - two.sum_VD,
        one.gram_DD + two.gram_DD + three.gram_DD - two.gram_DD,
    )
    left = fit_ridge([total], space, ridge=1e-3, balance=False)
    never = fit_ridge([one, three], space, ridge=1e-3, balance=False)
    np.testing.assert_allclose(left.weight_DV, never.weight_DV, rtol=1e-8, atol=1e-8)


@every_form
def test_an_expert_that_saw_nothing_stands_at_its_mean(incomplete: JoinedRows, fit: Fit) -> None:
    space = FeatureSpace(incomplete.blocks)
    head = fit(sums_of(incomplete, space), space, ridge=0.01, balance=True)
    north = incomplete.datasets[0]
    assert not north.available[2]
    width = north.features[2].shape[1]
    at_mean = np.broadcast_to(head.mean_D[-width:], north.features[2].shape)
    filled = replace(north, features=(*north.features[:2], at_mean), available=(True,) * 3)
    np.testing.assert_allclose(head.scores(north), head.scores(filled), atol=1e-9)
    loud = replace(north, features=(*north.features[:2], north.features[2] + 1e4))
    np.testing.assert_array_equal(head.scores(north), head.scores(loud))


def test_sums_are_no_larger_for_more_rows(joined: JoinedRows) -> None:
    space, rows = FeatureSpace(joined.blocks), joined.datasets[0]
    few = select_rows(rows, np.arange(len(rows.label_N)) % 4 == 0)
    many, fewer = sum_rows(rows, space), sum_rows(few, space)
    assert many.num_V.sum() > fewer.num_V.sum()
    assert [a.shape for a in (many.num_V, many.sum_VD, many.gram_DD)] == [
        a.shape for a in (fewer.num_V, fewer.sum_VD, fewer.gram_DD)
    ]


def test_only_labelled_plain_training_rows_are_summed(joined: JoinedRows) -> None:
    space, rows = FeatureSpace(joined.blocks), joined.datasets[0]
    counted = sum_rows(rows, space).num_V.sum()
    assert counted == is_scored(rows, "train").sum() < len(rows.label_N)
    assert (rows.pass_N > 0).any()


def test_a_coarse_label_counts_for_its_views_in_equal_shares(joined: JoinedRows) -> None:
    space, rows = FeatureSpace(joined.blocks), joined.datasets[1]
    apical = tuple(load_ontology().covered(("A4C", "A2C"), space.views))
    coarse = replace(rows, label_views=(apical, *rows.label_views[1:]))
    num_V = sum_rows(coarse, space).num_V
    of_label = (is_scored(rows, "train") & (rows.label_N == 0)).sum()
    assert num_V[space.views.index("A2C")] == of_label / 2
    assert num_V[space.views.index("A4C")] == of_label / 2


def test_other_counts_in_a_closed_form_where_it_leaves_one_view(joined: JoinedRows) -> None:
    space, rows = FeatureSpace(joined.blocks), joined.datasets[0]
    ontology = load_ontology()

    def counted(*annotated: str) -> np.ndarray:
        leaves = tuple(leaf for view in annotated for leaf in ontology.leaves(view))
        words = (("A4C",), ("A2C",), ("other",))
        return sum_rows(replace(rows, label_views=words, annotated=leaves), space).num_V

    of_label = (is_scored(rows, "train") & (rows.label_N == 2)).sum()
    plain_V = sum_rows(replace(rows, label_views=(("A4C",), ("A2C",), ())), space).num_V
    np.testing.assert_array_equal(counted("A4C", "A2C"), plain_V)
    sole_V = counted(*(view for view in space.views if view != "PLAX"))
    assert sole_V[space.views.index("PLAX")] == of_label


def test_a_closed_form_takes_a_label_without_what_is_folded_into_it(joined: JoinedRows) -> None:
    space, rows = FeatureSpace(joined.blocks), joined.datasets[0]
    folded = replace(rows, folds={"A3C": "A4C"})
    np.testing.assert_array_equal(sum_rows(folded, space).sum_VD, sum_rows(rows, space).sum_VD)


@pytest.mark.parametrize("num_random", [0, 24])
def test_a_new_expert_leaves_the_columns_of_the_others(joined: JoinedRows, num_random: int) -> None:
    features = joined.datasets[0].features
    two = FeatureSpace(joined.blocks[:2], num_random).columns(features[:2])
    three = FeatureSpace(joined.blocks, num_random).columns(features)
    np.testing.assert_array_equal(three[:, : two.shape[1]], two)


@every_form
def test_constant_and_repeated_columns_do_no_harm(joined: JoinedRows, fit: Fit) -> None:
    def spoil(rows: DatasetRows) -> DatasetRows:
        first = rows.features[0].copy()
        first[:, 0] = 7.0
        first[:, 1] = first[:, 2]
        return replace(rows, features=(first, *rows.features[1:]))

    space = FeatureSpace(joined.blocks)
    datasets = tuple(spoil(rows) for rows in joined.datasets)
    head = fit(sums_of(replace(joined, datasets=datasets), space), space, ridge=1e-4, balance=True)
    assert np.isfinite(head.weight_DV).all()
    assert (head.weight_DV[0] == 0).all()


def test_nearest_mean_is_the_nearest_mean_of_standardised_columns(joined: JoinedRows) -> None:
    space = FeatureSpace(joined.blocks)
    head = fit_nearest_mean(sums_of(joined, space), space, ridge=0.0, balance=False)
    columns_ND, target_N = pooled_rows(joined)
    means = np.stack([columns_ND[target_N == v].mean(axis=0) for v in range(len(space.views))])
    deviation_D = np.sqrt(((columns_ND - means[target_N]) ** 2).mean(axis=0))
    distance_NV = (((columns_ND[:, None] - means) / deviation_D) ** 2).sum(axis=2)
    told = (columns_ND - head.mean_D) @ head.weight_DV + head.bias_V
    np.testing.assert_array_equal(told.argmax(axis=1), distance_NV.argmin(axis=1))


@pytest.mark.parametrize("num_random", [0, 64])
def test_heads_tell_more_than_what_needs_no_training(joined: JoinedRows, num_random: int) -> None:
    heads = fit_heads(joined, balance=True, num_random=num_random)
    told = compare(joined, {}, heads).macro_f1
    untrained = max(told["max logit"], told["max probability"], told["confidence routing"])
    alone = max(value for method, value in told.items() if method.startswith("expert"))
    assert told["closed form linear discriminant"] > untrained
    assert told["closed form nearest mean"] > alone


@every_form
def test_probabilities_sum_to_one(joined: JoinedRows, fit: Fit) -> None:
    space = FeatureSpace(joined.blocks)
    told_NV = fit(sums_of(joined, space), space, ridge=0.01, balance=True).tell(joined.datasets[0])
    np.testing.assert_allclose(np.exp(told_NV).sum(axis=1), 1.0, atol=1e-9)


def test_one_view_only_is_refused(joined: JoinedRows) -> None:
    space, rows = FeatureSpace(joined.blocks), joined.datasets[0]
    one_view = select_rows(rows, rows.label_N == 0)
    with pytest.raises(EchoFedError) as caught:
        pool([sum_rows(one_view, space)], space, balance=True)
    assert caught.value.code is Code.FRAMES_MISSING


def test_features_that_are_not_finite_are_refused(joined: JoinedRows) -> None:
    rows = joined.datasets[0]
    bad = replace(rows, features=(rows.features[0] * np.nan, *rows.features[1:]))
    with pytest.raises(EchoFedError) as caught:
        sum_rows(bad, FeatureSpace(joined.blocks))
    assert caught.value.code is Code.FEATURES_NOT_FINITE


def test_without_validation_rows_nothing_is_fitted(joined: JoinedRows) -> None:
    only_train = tuple(select_rows(r, r.split_N == 0) for r in joined.datasets)
    with pytest.raises(EchoFedError) as caught:
        fit_heads(replace(joined, datasets=only_train), balance=True)
    assert caught.value.code is Code.FRAMES_MISSING
