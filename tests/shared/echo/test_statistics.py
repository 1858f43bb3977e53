"""Statistics exports: declared arrays only, refused where they say too much or nothing."""

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from shared.echo.expert import Block
from shared.echo.statistics import (
    ARRAYS,
    MAX_WIDTH,
    Moments,
    StatisticsCard,
    StatisticsExport,
    find_moments,
    moment_columns,
    moment_widths,
    projection,
    read_statistics,
    shrink,
)
from shared.errors import Code, EchoFedError
from shared.files import arrays_from_bytes, arrays_to_bytes

BLOCKS = (Block("north-0", ("A4C", "A2C"), 6, 3), Block("south-0", ("A4C",), 80, 2))
NUM = 240


def rows(seed: int, num: int = NUM) -> list[np.ndarray]:
    """Columns, labels, splits and patients."""
    generator = np.random.default_rng(seed)
    wide = (generator.normal(size=(num, 6)), generator.normal(size=(num, 80)))
    logits = (generator.normal(size=(num, 2)), generator.normal(size=(num, 1)))
    evidence = (generator.normal(size=(num, 3)), generator.normal(size=(num, 2)))
    label_N = np.arange(num) % 3
    columns_NM = moment_columns(BLOCKS, wide, logits, evidence) + label_N[:, None]
    return [columns_NM, label_N, (np.arange(num) // 3) % 3, np.arange(num) // 4]


def export_of(moments: Moments) -> StatisticsExport:
    card = StatisticsCard(
        id="north-demo",
        site="north",
        dataset="demo",
        dataset_hash="0" * 64,
        origin="phantom",
        blocks=BLOCKS,
        expert_sha256=("1" * 64, "2" * 64),
        labels=("4CH", "2CH", "LAX"),
        label_views=(("A4C",), ("A2C",), ("PLAX",)),
        shrinkage=0.0,
        policy_version=1,
        created="2026-01-01T00:00:00+00:00",
    )
    return StatisticsExport(card, moments)


@pytest.fixture
def export() -> StatisticsExport:
    return export_of(find_moments(*rows(0), num_labels=3, minimum=5))


def test_statistics_read_back_equal(export: StatisticsExport) -> None:
    back = read_statistics(export.to_bytes())
    assert back.card == export.card
    for name in ARRAYS:
        assert np.array_equal(getattr(back.moments, name), getattr(export.moments, name))


def test_nothing_in_the_file_grows_with_frames_or_patients() -> None:
    few = export_of(find_moments(*rows(1), num_labels=3, minimum=2))
    many = export_of(find_moments(*rows(1, 4 * NUM), num_labels=3, minimum=2))
    arrays = [arrays_from_bytes(one.to_bytes())[0] for one in (few, many)]
    shapes = [{name: array.shape for name, array in one.items()} for one in arrays]
    assert set(arrays[0]) == set(ARRAYS)
    assert shapes[0] == shapes[1]


def test_moments_are_those_of_the_rows() -> None:
    columns_NM, label_N, split_N, patient_N = rows(2)
    moments = find_moments(columns_NM, label_N, split_N, patient_N, num_labels=3, minimum=1)
    within = []
    for label in range(3):
        kept_NM = columns_NM[(label_N == label) & (split_N == 1)]
        assert moments.num_frames_SK[1, label] == len(kept_NM)
        np.testing.assert_allclose(moments.mean_SKM[1, label], kept_NM.mean(axis=0), atol=1e-12)
        within.append(kept_NM - kept_NM.mean(axis=0))
    expected_MM = np.cov(np.concatenate(within), rowvar=False, bias=True)
    np.testing.assert_allclose(moments.covariance_SMM[1], expected_MM, atol=1e-12)


def test_test_rows_are_not_told_of() -> None:
    columns_NM, label_N, split_N, patient_N = rows(3)
    loud_NM = np.where((split_N == 2)[:, None], 1e6, columns_NM)
    one = find_moments(columns_NM, label_N, split_N, patient_N, num_labels=3, minimum=1)
    other = find_moments(loud_NM, label_N, split_N, patient_N, num_labels=3, minimum=1)
    for name in ARRAYS:
        assert np.array_equal(getattr(one, name), getattr(other, name))


def test_a_label_of_four_patients_stays_out() -> None:
    columns_NM, label_N, split_N, patient_N = rows(4)
    few_N = (label_N == 2) & (split_N == 0)
    patient_N = np.where(few_N, np.arange(NUM) % 4, patient_N)
    columns_NM = np.where(few_N[:, None], 1e6, columns_NM)
    moments = find_moments(columns_NM, label_N, split_N, patient_N, num_labels=3, minimum=5)
    assert moments.num_frames_SK[0, 2] == moments.num_patients_SK[0, 2] == 0
    assert moments.num_frames_SK[0, :2].all()
    assert np.abs(moments.mean_SKM[0]).max() < 100 > np.abs(moments.covariance_SMM[0]).max()
    told = find_moments(columns_NM, label_N, split_N, patient_N, num_labels=3, minimum=4)
    assert told.num_patients_SK[0, 2] == 4


def test_projections_are_fixed_orthonormal_and_nothing_for_narrow_features() -> None:
    narrow, wide = BLOCKS
    np.testing.assert_array_equal(projection(narrow), np.eye(6))
    drawn_DP = projection(wide)
    assert drawn_DP.shape == (80, MAX_WIDTH)
    np.testing.assert_allclose(drawn_DP.T @ drawn_DP, np.eye(MAX_WIDTH), atol=1e-12)
    np.testing.assert_array_equal(drawn_DP, projection(replace(wide, views=("PLAX",))))
    assert not np.allclose(drawn_DP, projection(replace(wide, expert="south-1")))
    assert sum(moment_widths(BLOCKS)) == 6 + 64 + 3 + 5


@pytest.mark.parametrize("shrinkage", [0.0, 0.3, 1.0])
def test_shrinking_keeps_variances_and_takes_off_correlations(shrinkage: float) -> None:
    moments = find_moments(*rows(5), num_labels=3, minimum=2)
    shrunk = shrink(moments, shrinkage)
    plain_MM, shrunk_MM = moments.covariance_SMM[0], shrunk.covariance_SMM[0]
    np.testing.assert_allclose(np.diagonal(shrunk_MM), np.diagonal(plain_MM), atol=1e-12)
    np.testing.assert_allclose(shrunk_MM[0, 1:], (1 - shrinkage) * plain_MM[0, 1:], atol=1e-12)


def with_moments(**changes: Callable[[np.ndarray], np.ndarray]):
    def damage(export: StatisticsExport) -> StatisticsExport:
        changed = {name: change(getattr(export.moments, name)) for name, change in changes.items()}
        return replace(export, moments=replace(export.moments, **changed))

    return damage


def no_covariance(covariance_SMM: np.ndarray) -> np.ndarray:
    return -covariance_SMM


def lopsided(covariance_SMM: np.ndarray) -> np.ndarray:
    return np.triu(covariance_SMM)


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (with_moments(mean_SKM=lambda a: a * np.nan), Code.FEATURES_NOT_FINITE),
        (with_moments(covariance_SMM=lambda a: a * np.inf), Code.FEATURES_NOT_FINITE),
        (with_moments(mean_SKM=lambda a: a[:, :, 1:]), Code.FEATURE_WIDTH),
        (with_moments(covariance_SMM=no_covariance), Code.FEATURES_INVALID),
        (with_moments(covariance_SMM=lopsided), Code.FEATURES_INVALID),
        (with_moments(covariance_SMM=lambda a: 0 * a), Code.FEATURES_INVALID),
        (with_moments(mean_SKM=lambda a: a.astype("f4")), Code.FEATURES_INVALID),
        (with_moments(num_patients_SK=lambda a: a // a), Code.TOO_FEW_PATIENTS),
        (with_moments(num_frames_SK=lambda a: 0 * a), Code.TOO_FEW_PATIENTS),
        (lambda e: replace(e, card=replace(e.card, version=99)), Code.CARD_NEWER),
        (lambda e: replace(e, card=replace(e.card, labels=("4CH",))), Code.FEATURE_WIDTH),
    ],
)
def test_damaged_statistics_are_refused_with_their_code(
    export: StatisticsExport,
    damage: Callable[[StatisticsExport], StatisticsExport],
    code: Code,
) -> None:
    with pytest.raises(EchoFedError) as caught:
        read_statistics(damage(export).to_bytes())
    assert caught.value.code is code
    assert caught.value.hint


def test_one_row_per_label_is_refused() -> None:
    columns_NM, label_N, _, _ = rows(6, 3)
    alone = find_moments(columns_NM, label_N, 0 * label_N, label_N, num_labels=3, minimum=1)
    with pytest.raises(EchoFedError) as caught:
        export_of(alone).validate()
    assert caught.value.code is Code.TOO_FEW_PATIENTS


def test_an_undeclared_array_or_metadata_is_refused(export: StatisticsExport) -> None:
    arrays, metadata = arrays_from_bytes(export.to_bytes())
    for more, words in (({"frame_N": np.zeros(3)}, {}), ({}, {"note": json.dumps("x")})):
        with pytest.raises(EchoFedError, match="undeclared"):
            read_statistics(arrays_to_bytes({**arrays, **more}, {**metadata, **words}))
    with pytest.raises(EchoFedError, match="card"):
        read_statistics(arrays_to_bytes(arrays, {}))
