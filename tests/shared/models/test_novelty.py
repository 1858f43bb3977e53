"""Laws of the id scalar: distances, marginals, monotony, and what is kept."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import mahalanobis

from shared.echo.expert import Block
from shared.errors import Code, EchoFedError
from shared.evidence.gaussian import shrunk_covariance, squared_distances, whitening_of
from shared.models.novelty import Group, Home, Novelty, coordinates, read_novelty

BLOCKS = (
    Block("b", ("A4C", "A2C"), feature_width=3, num_evidence=2),
    Block("c", ("PLAX",), feature_width=4, num_evidence=1),
    Block("a", ("A4C", "PLAX"), feature_width=2, num_evidence=1),
)
Array = NDArray[np.float64]
Rows = tuple[list[Array], list[Array], list[Array]]


def draw(num: int = 50, *, seed: int = 0, shift: float = 0.0) -> Rows:
    generator = np.random.default_rng(seed)

    def of(widths: Sequence[int]) -> list[Array]:
        return [generator.normal(size=(num, width)) for width in widths]

    features = [np.abs(array + shift) for array in of([block.feature_width for block in BLOCKS])]
    logits = [array + shift for array in of([len(block.views) for block in BLOCKS])]
    evidence = [-np.abs(array) - shift for array in of([block.num_evidence for block in BLOCKS])]
    return features, logits, evidence


def home(dataset: str, *, seed: int, available: tuple[bool, ...] = (True, True, True)) -> Home:
    """Two classes, of which the first holds three quarters of the rows."""
    groups = []
    for rows_ND in coordinates(BLOCKS, *draw(200, seed=seed)):
        apart_ND = rows_ND - rows_ND.mean(axis=0)
        means_KD = np.stack([rows_ND[:100].mean(axis=0), rows_ND[100:].mean(axis=0) + 0.5])
        groups.append(Group(means_KD, shrunk_covariance(apart_ND, 0.03)))
    return Home(dataset, available, np.array([0.75, 0.25]), tuple(groups))


def known(*homes: Home) -> Novelty:
    return Novelty(BLOCKS, homes, slope=2.0, offset=0.5)


def score(novelty: Novelty, rows: Rows, available: Sequence[bool] | None = None) -> Array:
    scorer = novelty.scorer(available)
    assert scorer is not None
    return scorer.score(*rows)


def test_distances_stay_under_any_invertible_affine_map() -> None:
    generator = np.random.default_rng(1)
    rows_ND, map_DD = generator.normal(size=(60, 5)), generator.normal(size=(5, 5))
    moved_ND = rows_ND @ map_DD + generator.normal(size=5)

    def distances(here_ND: Array) -> Array:
        covariance_DD = shrunk_covariance(here_ND - here_ND.mean(axis=0), 0.0)
        return squared_distances(here_ND, here_ND[:3], whitening_of(covariance_DD))

    np.testing.assert_allclose(distances(moved_ND), distances(rows_ND), rtol=1e-8, atol=1e-8)


def test_shrinkage_leaves_variances_and_takes_its_share_of_the_rest() -> None:
    rows_ND = np.random.default_rng(2).normal(size=(40, 4))
    centred_ND = rows_ND - rows_ND.mean(axis=0)
    whole_DD = np.cov(rows_ND.T, bias=True)
    shrunk_DD = shrunk_covariance(centred_ND, 0.25)
    np.testing.assert_allclose(np.diagonal(shrunk_DD), np.diagonal(whole_DD))
    np.testing.assert_allclose(shrunk_DD[0, 1:], 0.75 * whole_DD[0, 1:])


def closed_form(one: Home, rows: Rows, seen: Sequence[int]) -> Array:
    """One known dataset, looked at by some of the experts, with plain inverses."""
    evidence = [2 * block.num_evidence for block in BLOCKS]
    by_id = (2, 0, 1)
    opinion = np.repeat(by_id, [len(BLOCKS[at].views) + evidence[at] for at in by_id])
    told_NK = np.zeros((len(rows[0][0]), len(one.share_K)))
    for place, rows_ND in enumerate(coordinates(BLOCKS, *rows)):
        if place < len(BLOCKS) and place not in seen:
            continue
        kept = np.isin(opinion, seen) if place == len(BLOCKS) else np.full(rows_ND.shape[1], True)
        weight = 1.0 if place == len(BLOCKS) else 1.0 / len(seen)
        means_KD = one.groups[place].means_KD[:, kept]
        within_DD = one.groups[place].covariance_DD[np.ix_(kept, kept)]
        mean_D = one.share_K @ means_KD
        apart_KD = means_KD - mean_D
        total_DD = within_DD + np.einsum("k,kd,ke->de", one.share_K, apart_KD, apart_KD)
        for row, row_D in enumerate(rows_ND[:, kept]):
            far = mahalanobis(row_D, mean_D, np.linalg.inv(total_DD)) ** 2
            for column, class_D in enumerate(means_KD):
                near = mahalanobis(row_D, class_D, np.linalg.inv(within_DD)) ** 2
                width = kept.sum()
                told_NK[row, column] += weight * (
                    0.5 * np.log1p(far / width) - np.log1p(near / width)
                )
    return told_NK.max(axis=1)


@pytest.mark.parametrize("seen", [(0, 1, 2), (1,), (0, 2)])
def test_the_score_is_that_of_the_closed_form_of_the_marginals(seen: tuple[int, ...]) -> None:
    one, rows = home("a/x", seed=3), draw(5, seed=4)
    available = [place in seen for place in range(3)]
    np.testing.assert_allclose(
        score(known(one), rows, available), closed_form(one, rows, seen), rtol=1e-6
    )


def test_what_a_missing_expert_brings_is_ignored() -> None:
    novelty, rows = known(home("a/x", seed=3), home("b/y", seed=5)), draw(5, seed=4)
    spoilt = tuple([array[0], array[1] - 9.0, array[2]] for array in rows)
    available = [True, False, True]
    assert np.array_equal(score(novelty, rows, available), score(novelty, spoilt, available))


def test_a_home_that_an_expert_did_not_see_is_measured_by_the_others() -> None:
    rows, seen = draw(5, seed=4), (True, False, True)
    blind = known(home("a/x", seed=3, available=seen))
    assert np.array_equal(score(blind, rows), score(known(home("a/x", seed=3)), rows, seen))
    assert blind.scorer((False, True, False)) is None


def test_to_leave_a_dataset_out_is_never_to_have_known_it() -> None:
    one, other, rows = home("a/x", seed=3), home("b/y", seed=5), draw(5, seed=4)
    scorer = known(one, other).scorer(without=("b/y",))
    assert scorer is not None
    assert np.array_equal(scorer.score(*rows), score(known(one), rows))


@pytest.mark.parametrize("seen", [(True, True, True), (True, False, True)])
def test_the_order_of_the_datasets_is_nothing(seen: tuple[bool, ...]) -> None:
    """Nor is it where an expert did not see one of them."""
    one, rows = home("a/x", seed=3), draw(5, seed=4)
    other = home("b/y", seed=5, available=seen)
    np.testing.assert_allclose(
        score(known(one, other), rows), score(known(other, one), rows), rtol=1e-10
    )


def test_a_row_at_a_class_mean_is_at_home_and_the_farther_the_less() -> None:
    """Along any ray from a mean of one dataset alone the distance grows, and the scalar falls."""
    novelty = known(home("a/x", seed=3))
    near = draw(40, seed=3)
    steps = [0.0, 1.0, 3.0, 10.0, 100.0]
    told = []
    for step in steps:
        away = (near[0], [array + step for array in near[1]], near[2])
        told.append(score(novelty, away).mean())
    assert told == sorted(told, reverse=True)


def test_the_id_scalar_is_a_chance_that_rises_with_the_score() -> None:
    novelty = known(home("a/x", seed=3))
    scalar_N = novelty.id_scalar(np.linspace(-100.0, 100.0, 501))
    assert ((scalar_N >= 0) & (scalar_N <= 1)).all()
    assert (np.diff(scalar_N) >= 0).all()
    assert novelty.id_scalar(np.array([-0.25]))[0] == pytest.approx(0.5)


def test_it_reads_back_what_the_file_keeps() -> None:
    novelty, rows = known(home("a/x", seed=3), home("b/y", seed=5)), draw(5, seed=4)
    again = read_novelty(novelty.arrays(), BLOCKS, ["a/x", "b/y"])
    assert again is not None
    np.testing.assert_allclose(score(again, rows), score(novelty, rows), atol=1e-3)
    assert all(np.array_equal(again.arrays()[name], one) for name, one in novelty.arrays().items())
    assert read_novelty({}, BLOCKS, []) is None


@pytest.mark.parametrize("datasets", [["a/x"], ["a/x", "c/z"], []])
def test_a_file_that_keeps_other_datasets_than_its_card_says_is_refused(
    datasets: list[str],
) -> None:
    arrays = known(home("a/x", seed=3), home("b/y", seed=5)).arrays()
    with pytest.raises(EchoFedError) as caught:
        read_novelty(arrays, BLOCKS, datasets)
    assert caught.value.code is Code.CHECKPOINT_CORRUPT


def test_a_file_of_other_experts_is_refused() -> None:
    arrays = known(home("a/x", seed=3)).arrays()
    wider = (replace(BLOCKS[0], feature_width=9), *BLOCKS[1:])
    with pytest.raises(EchoFedError) as caught:
        read_novelty(arrays, wider, ["a/x"])
    assert caught.value.code is Code.CHECKPOINT_CORRUPT
