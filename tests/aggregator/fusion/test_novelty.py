"""What a fusion keeps of its datasets: no row, few patients never, thresholds as asked."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from aggregator.fusion.evaluate import is_scored
from aggregator.fusion.novelty import (
    carried_by,
    fit_home,
    fit_novelty,
    keep_share,
    score_clips,
    site_rejections,
)
from aggregator.joined_rows import DatasetRows, JoinedRows, select_rows
from shared.echo.expert import Carried
from shared.errors import Code, EchoFedError
from shared.evidence.rows import MIN_PATIENTS
from shared.models.novelty import Novelty, coordinates
from shared.testing.exports import GaussianWorld

Homes = Mapping[str, tuple[str, ...]]


@pytest.fixture(scope="session")
def homes(world: GaussianWorld) -> Homes:
    return {world.expert(site).id: (f"{site}/{site}-echo",) for site in world.views}


@pytest.fixture(scope="session")
def novelty(joined: JoinedRows, homes: Homes) -> Novelty:
    fitted = fit_novelty(joined, homes)
    assert fitted is not None
    return fitted


def with_few_patients(rows: DatasetRows, label: int, num: int) -> DatasetRows:
    """The rows of one label are of so many patients."""
    few_N = np.where(rows.label_N == label, rows.patient_N % num, rows.patient_N + 1000)
    return replace(rows, patient_N=few_N)


def test_means_and_covariance_are_those_of_the_labelled_training_rows(joined: JoinedRows) -> None:
    rows = joined.datasets[0]
    train = select_rows(rows, is_scored(rows, "train"))
    home = fit_home(rows, joined.blocks)
    assert home is not None
    groups = coordinates(joined.blocks, train.features, train.logits, train.evidence)
    for rows_ND, group in zip(groups, home.groups, strict=True):
        means_KD = np.stack([rows_ND[train.label_N == label].mean(axis=0) for label in range(3)])
        apart_ND = rows_ND - means_KD[train.label_N]
        np.testing.assert_allclose(group.means_KD, means_KD)
        np.testing.assert_allclose(np.diagonal(group.covariance_DD), apart_ND.var(axis=0))
    assert home.share_K == pytest.approx(np.full(3, 1 / 3))


def test_a_class_of_fewer_patients_never_enters(joined: JoinedRows) -> None:
    rows = joined.datasets[0]
    few = with_few_patients(rows, 1, MIN_PATIENTS - 1)
    enough = with_few_patients(rows, 1, MIN_PATIENTS)
    without = select_rows(rows, rows.label_N != 1)
    kept, expected, all_kept = (fit_home(one, joined.blocks) for one in (few, without, enough))
    assert kept is not None
    assert expected is not None
    assert all_kept is not None
    for one, other in zip(kept.groups, expected.groups, strict=True):
        assert np.array_equal(one.means_KD, other.means_KD)
        assert np.array_equal(one.covariance_DD, other.covariance_DD)
    assert len(all_kept.share_K) == 3


def test_a_site_may_ask_for_more_patients_than_we_do(joined: JoinedRows) -> None:
    """Its least number holds, and stands on the card."""
    train = select_rows(joined.datasets[0], is_scored(joined.datasets[0], "train"))
    num = min(len(np.unique(train.patient_N[train.label_N == label])) for label in range(3))
    enough = replace(joined.datasets[0], minimum_patients=num)
    kept = fit_home(enough, joined.blocks)
    assert kept is not None
    assert len(kept.share_K) == 3
    stricter = fit_home(replace(enough, minimum_patients=num + 1), joined.blocks)
    assert stricter is None or len(stricter.share_K) < 3
    (told,) = carried_by(Novelty(joined.blocks, (kept,)), replace(joined, datasets=(enough,)))
    assert told.minimum_patients == num > MIN_PATIENTS


def test_where_no_class_has_enough_patients_nothing_is_kept(
    joined: JoinedRows, homes: Homes
) -> None:
    few = [replace(rows, patient_N=rows.patient_N % 4) for rows in joined.datasets]
    changed = replace(joined, datasets=tuple(few))
    nothing = fit_novelty(changed, homes)
    assert nothing is None
    assert carried_by(nothing, changed) == ()
    assert site_rejections(nothing, changed.datasets, recall=0.95) == {}
    some = replace(joined, datasets=(few[0], *joined.datasets[1:]))
    kept = fit_novelty(some, homes)
    assert [one.dataset for one in carried_by(kept, some)] == [r.name for r in some.datasets[1:]]


def test_no_row_of_any_site_is_in_it(joined: JoinedRows, novelty: Novelty) -> None:
    """It is no larger for more rows, and none of its vectors is a row."""
    vectors = [
        {row_D.tobytes() for row_D in array}
        for name, array in novelty.arrays().items()
        if array.ndim == 2
    ]
    kept = set().union(*vectors)
    for rows in joined.datasets:
        for rows_ND in coordinates(joined.blocks, rows.features, rows.logits, rows.evidence):
            assert not {row_D.tobytes() for row_D in rows_ND.astype(np.float32)} & kept
    twice = [replace_rows_twice(rows) for rows in joined.datasets]
    again = fit_novelty(replace(joined, datasets=tuple(twice)), {})
    assert again is not None
    assert {n: a.shape for n, a in again.arrays().items()} == {
        n: a.shape for n, a in novelty.arrays().items()
    }


def replace_rows_twice(rows: DatasetRows) -> DatasetRows:
    twice_M = np.repeat(np.arange(len(rows.label_N)), 2)
    taken = select_rows(rows, np.ones(len(rows.label_N), dtype=np.bool_))
    return replace(
        taken,
        **{
            name: getattr(rows, name)[twice_M]
            for name in ("label_N", "split_N", "pass_N", "clip_N", "patient_N")
        },
        **{
            name: tuple(array[twice_M] for array in getattr(rows, name))
            for name in ("features", "logits", "evidence")
        },
    )


def test_the_card_lists_dataset_content_and_policy(joined: JoinedRows, novelty: Novelty) -> None:
    rows = joined.datasets[0]
    assert carried_by(novelty, joined)[0] == Carried(
        dataset=rows.name,
        dataset_hash=rows.dataset_hash,
        artefact="class means and covariance",
        num_classes=3,
        minimum_patients=MIN_PATIENTS,
        policy_version=1,
    )


@pytest.mark.parametrize("num", [20, 37, 40, 200])
@pytest.mark.parametrize("recall", [0.95, 0.8, 1.0])
def test_thresholds_keep_exactly_the_asked_share(num: int, recall: float) -> None:
    value_M = np.random.default_rng(num).permutation(num).astype(np.float64)
    kept = (value_M >= keep_share(value_M, recall)).sum()
    assert kept == np.ceil(recall * num - 1e-9)


def test_every_site_keeps_its_share_of_validation_clips(
    joined: JoinedRows, novelty: Novelty
) -> None:
    rejections = site_rejections(novelty, joined.datasets, recall=0.8)
    assert set(rejections) == {"north", "south", "east"}
    for rows in joined.datasets:
        scorer = novelty.scorer(rows.available)
        assert scorer is not None
        near_M = score_clips(scorer, select_rows(rows, rows.split_N == 1))
        one = rejections[rows.name.partition("/")[0]]
        assert (novelty.id_scalar(near_M) >= one.id_scalar_below).mean() == 0.8


def test_home_is_likelier_than_a_scanner_that_nobody_saw(
    joined_by_number: Mapping[int, JoinedRows], homes: Homes
) -> None:
    """West joins with neither its rows nor its expert known."""
    four = joined_by_number[4]
    fitted = fit_novelty(joined_by_number[3], homes)
    assert fitted is not None
    scorer = fitted.scorer()
    assert scorer is not None
    told = []
    for rows in four.datasets:
        test = select_rows(rows, is_scored(rows, "test"))
        inputs = (test.features[:3], test.logits[:3], test.evidence[:3])
        told.append(fitted.id_scalar(scorer.score(*inputs)).mean())
    assert min(told[:3]) > 0.7
    assert told[3] < 0.3


def test_one_dataset_alone_refuses_few_of_its_own_clips(
    joined_by_number: Mapping[int, JoinedRows], homes: Homes
) -> None:
    alone = joined_by_number[1]
    fitted = fit_novelty(alone, homes)
    assert fitted is not None
    rows = alone.datasets[0]
    scorer = fitted.scorer()
    assert scorer is not None
    near_M = score_clips(scorer, select_rows(rows, is_scored(rows, "val")))
    assert (fitted.id_scalar(near_M) >= 0.5).mean() == pytest.approx(0.95, abs=0.02)
    assert fitted.slope > 0


def test_an_incomplete_bank_is_fitted(incomplete: JoinedRows, homes: Homes) -> None:
    fitted = fit_novelty(incomplete, homes)
    assert fitted is not None
    assert fitted.homes[0].available == (True, True, False)
    rejections = site_rejections(fitted, incomplete.datasets, recall=0.95)
    assert set(rejections) == {"north", "south", "east"}


def test_neither_order_of_datasets_nor_of_experts_changes_what_is_kept(
    joined: JoinedRows, homes: Homes, novelty: Novelty
) -> None:
    """Equal names, equal arrays: exact withdrawal does not depend on who came when."""
    turned = JoinedRows(
        blocks=joined.blocks[::-1],
        datasets=tuple(
            replace(
                rows,
                available=rows.available[::-1],
                features=rows.features[::-1],
                logits=rows.logits[::-1],
                evidence=rows.evidence[::-1],
            )
            for rows in joined.datasets[::-1]
        ),
        missing={},
    )
    other = fit_novelty(turned, homes)
    assert other is not None
    mine, theirs = novelty.arrays(), other.arrays()
    assert mine.keys() == theirs.keys()
    for name, array in mine.items():
        np.testing.assert_allclose(array, theirs[name], rtol=1e-6, err_msg=name)


def test_rows_that_are_not_finite_are_refused(joined: JoinedRows, homes: Homes) -> None:
    rows = joined.datasets[1]
    broken = (np.full_like(rows.features[0], np.nan), *rows.features[1:])
    datasets = (joined.datasets[0], replace(rows, features=broken), joined.datasets[2])
    with pytest.raises(EchoFedError) as caught:
        fit_novelty(replace(joined, datasets=datasets), homes)
    assert caught.value.code is Code.FEATURES_NOT_FINITE


def test_an_expert_that_tells_nothing_says_nothing(joined: JoinedRows, homes: Homes) -> None:
    """Constant features and logits of one expert leave finite scores by the others."""
    dull = [
        replace(
            rows,
            features=(np.ones_like(rows.features[0]), *rows.features[1:]),
            logits=(np.zeros_like(rows.logits[0]), *rows.logits[1:]),
            evidence=(np.zeros_like(rows.evidence[0]), *rows.evidence[1:]),
        )
        for rows in joined.datasets
    ]
    fitted = fit_novelty(replace(joined, datasets=tuple(dull)), homes)
    assert fitted is not None
    scorer = fitted.scorer()
    assert scorer is not None
    near_M = score_clips(scorer, dull[0])
    assert np.isfinite(near_M).all()
