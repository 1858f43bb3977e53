"""The translator: exact where experts depend on each other, the textbook's conditional mean."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from aggregator.fusion import translate as module
from aggregator.fusion.evaluate import fuse_rows, is_scored, macro_score, score_rows
from aggregator.fusion.fit import fit_union_head
from aggregator.fusion.rows import held_out_rows, training_rows
from aggregator.fusion.sums import FeatureSpace, pool, sum_rows
from aggregator.fusion.train import Provenance, train_fusions
from aggregator.fusion.translate import fit_translator, with_translations, without_experts
from aggregator.joined_rows import DatasetRows, JoinedRows, select_rows
from aggregator.settings import FusionSettings
from shared.echo.expert import FusionVariant
from shared.errors import Code, EchoFedError


def columns(rows: DatasetRows, *places: int) -> np.ndarray:
    arrays = [
        array
        for place in places
        for array in (rows.features[place], rows.logits[place], rows.evidence[place])
    ]
    return np.hstack(arrays).astype(np.float64)


def test_the_translation_is_ridge_regression_on_the_experts_that_are_there(
    joined: JoinedRows,
) -> None:
    rows = joined.datasets[0]
    alone = replace(joined, datasets=(rows,))
    train = select_rows(rows, is_scored(rows, "train"))
    there_NM, gone_NM = columns(train, 0, 1), columns(train, 2)
    scale_M = there_NM.std(axis=0)
    varies_M = scale_M > 0
    scale_M = np.where(varies_M, scale_M, 1.0)
    textbook = Ridge(alpha=module._RIDGE * len(there_NM), solver="cholesky")
    textbook.fit(there_NM / scale_M, gone_NM)
    told = fit_translator(alone).impute(without_experts(rows, [2]))
    expected = textbook.predict(columns(rows, 0, 1) / scale_M)
    np.testing.assert_allclose(columns(told, 2), expected, atol=1e-4)


def test_an_expert_that_repeats_another_is_told_exactly(
    joined: JoinedRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RIDGE", 1e-9)

    def repeat(rows: DatasetRows) -> DatasetRows:
        features = (*rows.features[:2], 2.0 * rows.features[0] + 1.0)
        return replace(rows, features=features)

    twice = replace(joined, datasets=tuple(map(repeat, joined.datasets)))
    rows = twice.datasets[1]
    told = fit_translator(twice).impute(without_experts(rows, [2]))
    np.testing.assert_allclose(told.features[2], rows.features[2], atol=1e-3)
    assert all(told.available)


def test_what_is_there_stays_and_what_is_gone_is_never_read(joined: JoinedRows) -> None:
    rows, translator = joined.datasets[0], fit_translator(joined)
    cut = without_experts(rows, [1])
    loud = replace(cut, features=(rows.features[0], rows.features[1] + 1e6, rows.features[2]))
    one, other = translator.impute(cut), translator.impute(loud)
    np.testing.assert_array_equal(one.features[0], rows.features[0])
    for place in range(3):
        np.testing.assert_array_equal(one.features[place], other.features[place])
    assert translator.impute(rows) is rows


def test_a_missing_expert_is_better_told_than_left_out(joined: JoinedRows) -> None:
    fusion = fit_union_head(joined, held_out_rows(joined), balance=True)
    translator = fit_translator(joined)

    def macro(datasets: list[DatasetRows]) -> float:
        told = [fuse_rows(fusion, rows).log_probabilities_NV for rows in datasets]
        pairs = zip(datasets, told, strict=True)
        return macro_score(score_rows(rows, one, fusion.views) for rows, one in pairs)

    masked, imputed = [], []
    for place in range(3):
        cut = [without_experts(rows, [place]) for rows in joined.datasets]
        masked.append(macro(cut))
        imputed.append(macro([translator.impute(rows) for rows in cut]))
    assert np.mean(imputed) > np.mean(masked)


def test_a_dataset_that_an_expert_did_not_see_comes_with_and_without_its_translation(
    incomplete: JoinedRows, joined: JoinedRows
) -> None:
    north, *others, filled = with_translations(incomplete).datasets
    assert filled.name == north.name
    assert (all(north.available), all(filled.available)) == (False, True)
    assert filled.features[2].any()
    assert all(one is other for one, other in zip(others, incomplete.datasets[1:], strict=True))
    assert with_translations(joined) is joined


def test_where_no_dataset_was_seen_by_all_nothing_is_added(joined: JoinedRows) -> None:
    pairs = enumerate(joined.datasets)
    apart = replace(joined, datasets=tuple(without_experts(rows, [n]) for n, rows in pairs))
    assert with_translations(apart) is apart


@pytest.mark.parametrize("variant", ["ridge", "sum"])
def test_an_expert_does_not_tell_the_sites_that_had_it(
    joined: JoinedRows, variant: FusionVariant
) -> None:
    """East's expert is there when north and south are asked, though they came without it."""
    *old, new = joined.datasets
    lacking = replace(joined, datasets=(*(without_experts(rows, [2]) for rows in old), new))
    scores = []
    for is_filled in (False, True):
        settings = FusionSettings(
            variants=(variant,), epochs=15, threads=1, translate_missing=is_filled
        )
        fusion = train_fusions(lacking, settings, Provenance("")).best.fusion
        scores.append(
            macro_score(
                score_rows(rows, fuse_rows(fusion, rows).log_probabilities_NV, fusion.views)
                for rows in old
            )
        )
    assert scores[1] > scores[0]


def test_a_dataset_in_two_forms_weighs_as_one(joined: JoinedRows) -> None:
    space = FeatureSpace(joined.blocks)
    one, *others = (sum_rows(rows, space) for rows in joined.datasets)
    for balance in (True, False):
        twice, once = (
            pool(sums, space, balance=balance) for sums in ([one, one, *others], [one, *others])
        )
        np.testing.assert_allclose(twice.scatter_DD, once.scatter_DD, atol=1e-8)
        views = space.views
        doubled = replace(joined, datasets=(joined.datasets[0], *joined.datasets))
        weight_N = training_rows(joined, views, balance=balance).weight_N
        num = int((joined.datasets[0].split_N == 0).sum())
        twofold_N = training_rows(doubled, views, balance=balance).weight_N
        torch.testing.assert_close(
            twofold_N[: 2 * num].sum() / twofold_N.sum(), weight_N[:num].sum() / weight_N.sum()
        )


def test_rows_that_no_expert_saw_and_experts_that_never_met_are_refused(
    joined: JoinedRows,
) -> None:
    gone = without_experts(joined.datasets[0], [0, 1, 2])
    with pytest.raises(EchoFedError) as caught:
        fit_translator(joined).impute(gone)
    assert caught.value.code is Code.FEATURES_INVALID
    apart = tuple(without_experts(rows, [0]) for rows in joined.datasets)
    with pytest.raises(EchoFedError) as caught:
        fit_translator(replace(joined, datasets=apart))
    assert caught.value.code is Code.FRAMES_MISSING


def test_features_that_are_constant_do_no_harm_and_others_are_refused(joined: JoinedRows) -> None:
    def spoil(rows: DatasetRows, value: float) -> DatasetRows:
        first = rows.features[0].copy()
        first[:, 0] = value
        return replace(rows, features=(first, *rows.features[1:]))

    flat = replace(joined, datasets=tuple(spoil(rows, 7.0) for rows in joined.datasets))
    rows = flat.datasets[0]
    told = fit_translator(flat).impute(without_experts(rows, [0]))
    np.testing.assert_allclose(told.features[0][:, 0], 7.0, atol=1e-5)
    assert np.isfinite(columns(told, 0, 1, 2)).all()
    bad = replace(joined, datasets=tuple(spoil(rows, np.nan) for rows in joined.datasets))
    with pytest.raises(EchoFedError) as caught:
        fit_translator(bad)
    assert caught.value.code is Code.FEATURES_NOT_FINITE
