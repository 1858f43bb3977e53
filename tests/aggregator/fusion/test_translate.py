"""The translator: exact where experts depend on each other, the textbook's conditional mean."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from aggregator.feature_bank import DatasetRows, JoinedRows, select_rows
from aggregator.fusion import translate as module
from aggregator.fusion.evaluate import fuse_rows, is_scored, macro_score, score_rows
from aggregator.fusion.fit import fit_union_head
from aggregator.fusion.rows import held_out_rows
from aggregator.fusion.translate import fit_translator, translate, without_experts
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


def test_missing_blocks_of_a_dataset_are_filled_from_the_others(incomplete: JoinedRows) -> None:
    north, *others = incomplete.datasets
    filled, *same = translate(incomplete).datasets
    assert not all(north.available)
    assert all(filled.available)
    assert filled.features[2].any()
    assert all(one is other for one, other in zip(same, others, strict=True))


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
