"""Laws of the id scalar: distances, marginals, monotony, and what is kept."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import eigh
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


def told(
    one: Home, known: Sequence[Home], place: int, rows_ND: Array, kept: Array, axes: Array | None
) -> Array:
    """What one group says of every class of a dataset, with plain inverses."""
    axes_DR = np.eye(kept.sum()) if axes is None else axes
    whole = [whole_of(home, place, kept) for home in known]
    means_HR = np.stack([mean_D for mean_D, _ in whole]) @ axes_DR
    all_RR = axes_DR.T @ np.mean([total_DD for _, total_DD in whole], axis=0) @ axes_DR
    all_RR += np.cov(means_HR.T, bias=True) if len(known) > 1 else 0.0
    within_DD = one.groups[place].covariance_DD[np.ix_(kept, kept)]
    near_RR = np.linalg.inv(axes_DR.T @ within_DD @ axes_DR)
    rows_NR = rows_ND[:, kept] @ axes_DR
    far_N = [
        mahalanobis(row_R, means_HR.mean(axis=0), np.linalg.inv(all_RR)) ** 2 for row_R in rows_NR
    ]
    near_NK = [
        [
            mahalanobis(row_R, class_D @ axes_DR, near_RR) ** 2
            for class_D in means_of(one, place, kept)
        ]
        for row_R in rows_NR
    ]
    num = axes_DR.shape[1]
    told_NK: Array = 0.5 * np.log1p(np.array(far_N) / num)[:, None] - np.log1p(
        np.array(near_NK) / num
    )
    return told_NK


def means_of(one: Home, place: int, kept: Array) -> Array:
    return one.groups[place].means_KD[:, kept]


def whole_of(one: Home, place: int, kept: Array) -> tuple[Array, Array]:
    """Mean and covariance of all rows of a dataset."""
    means_KD = means_of(one, place, kept)
    mean_D = one.share_K @ means_KD
    apart_KD = means_KD - mean_D
    within_DD = one.groups[place].covariance_DD[np.ix_(kept, kept)]
    return mean_D, within_DD + np.einsum("k,kd,ke->de", one.share_K, apart_KD, apart_KD)


def discriminants(known: Sequence[Home], place: int, kept: Array) -> Array:
    """Solutions of the generalised eigenproblem, but for those of value zero."""
    whole = [whole_of(home, place, kept) for home in known]
    between_DD = np.cov(np.stack([mean_D for mean_D, _ in whole]).T, bias=True)
    _, axis_DD = eigh(between_DD, np.mean([total_DD for _, total_DD in whole], axis=0))
    axes_DR: Array = axis_DD[:, 1 - len(known) :]
    return axes_DR


def closed_form(known: Sequence[Home], rows: Rows, seen: Sequence[int]) -> Array:
    """Datasets that all experts saw, looked at by some of them."""
    by_id = (2, 0, 1)
    widths = [len(BLOCKS[at].views) + 2 * BLOCKS[at].num_evidence for at in by_id]
    is_seen = np.isin(np.repeat(by_id, widths), seen)
    *looks, opinions_ND = coordinates(BLOCKS, *rows)
    best = []
    for one in known:
        told_NK = told(one, known, len(BLOCKS), opinions_ND, is_seen, None)
        for place in seen:
            kept = np.full(looks[place].shape[1], True)
            told_NK += told(one, known, place, looks[place], kept, None) / len(seen)
            if len(known) > 1:
                axes_DR = discriminants(known, place, kept)
                told_NK += 0.5 * told(one, known, place, looks[place], kept, axes_DR) / len(seen)
        best.append(told_NK.max(axis=1))
    return np.max(best, axis=0)


@pytest.mark.parametrize("num", [1, 2, 3])
@pytest.mark.parametrize("seen", [(0, 1, 2), (1,), (0, 2)])
def test_the_score_is_that_of_the_closed_form_of_the_marginals(
    seen: tuple[int, ...], num: int
) -> None:
    homes = [home(f"a/{seed}", seed=seed) for seed in (3, 5, 7)[:num]]
    rows, available = draw(5, seed=4), [place in seen for place in range(3)]
    np.testing.assert_allclose(
        score(known(*homes), rows, available), closed_form(homes, rows, seen), rtol=1e-6
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


def test_the_order_of_the_datasets_is_nothing_where_an_expert_missed_one() -> None:
    homes = [home("a/x", seed=3), home("b/y", seed=5), home("c/z", seed=7)]
    homes[1] = replace(homes[1], available=(True, False, True))
    rows = draw(5, seed=4)
    np.testing.assert_allclose(
        score(known(*homes), rows), score(known(*homes[::-1]), rows), rtol=1e-10
    )
    np.testing.assert_allclose(
        score(known(homes[1], homes[0], homes[2]), rows), score(known(*homes), rows), rtol=1e-10
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
