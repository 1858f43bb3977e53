"""Methods that keep sums, Gaussians or frozen logits: each against its closed form in float64."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from aggregator.benchmark import METHODS
from aggregator.benchmark.fecam import (
    ViewGaussian,
    describe_views,
    shrink_and_normalise,
    squared_distances,
)
from aggregator.benchmark.frozen_first import learn_beside
from aggregator.benchmark.lessons import Lesson, arrange_columns, arrange_lessons
from aggregator.benchmark.mixtures import LabelMixture, describe_labels, draw_samples
from aggregator.benchmark.stage import Stage
from aggregator.benchmark.stream import Stream
from aggregator.benchmark.streaming import (
    RunningMoments,
    blank_moments,
    blank_ridge,
    stream_moments,
    stream_ridge,
)
from aggregator.fusion.baselines import tell_alone

Array = NDArray[np.float64]


@pytest.fixture(scope="module")
def stage(world_stream: Stream) -> Stage:
    return world_stream.stage(3)


@pytest.fixture(scope="module")
def lessons(stage: Stage) -> list[Lesson]:
    return arrange_lessons(stage, arrange_columns(stage))


def stream_all(lessons: list[Lesson]) -> RunningMoments:
    moments = blank_moments(lessons[0])
    for lesson in lessons:
        moments = stream_moments(moments, lesson.columns_ND, lesson.share_NV)
    return moments


def row_by_row(columns_ND: Array, view_N: NDArray[np.int64], num_views: int) -> tuple[Array, Array]:
    """Hayes and Kanan as written: one row at a time."""
    mean_VD, num_V = np.zeros((num_views, columns_ND.shape[1])), np.zeros(num_views)
    covariance_DD = np.zeros((columns_ND.shape[1],) * 2)
    for t, (row_D, view) in enumerate(zip(columns_ND, view_N, strict=True)):
        gap_D = row_D - mean_VD[view]
        added_DD = t * np.outer(gap_D, gap_D) / (t + 1)
        covariance_DD = (t * covariance_DD + added_DD) / (t + 1)
        mean_VD[view] = (num_V[view] * mean_VD[view] + row_D) / (num_V[view] + 1)
        num_V[view] += 1
    return mean_VD, covariance_DD


def test_streaming_moments_are_those_of_the_paper_row_by_row(lessons: list[Lesson]) -> None:
    columns_ND = np.concatenate([lesson.columns_ND for lesson in lessons])
    view_N = np.concatenate([lesson.share_NV.argmax(axis=1) for lesson in lessons])
    mean_VD, covariance_DD = row_by_row(columns_ND, view_N, lessons[0].share_NV.shape[1])
    found = stream_all(lessons)
    np.testing.assert_allclose(found.mean_VD, mean_VD, atol=1e-10)
    np.testing.assert_allclose(found.covariance_DD, covariance_DD, atol=1e-10)


def test_streaming_means_do_not_depend_on_the_order(lessons: list[Lesson]) -> None:
    forth, back = stream_all(lessons), stream_all(lessons[::-1])
    np.testing.assert_allclose(forth.mean_VD, back.mean_VD, atol=1e-10)
    assert np.array_equal(forth.num_V, back.num_V)


def test_a_row_of_two_views_moves_both_means_by_half_a_row() -> None:
    blank = RunningMoments(np.zeros(2), np.zeros((2, 1)), np.zeros((1, 1)))
    found = stream_moments(blank, np.array([[1.0], [4.0]]), np.array([[1.0, 0.0], [0.5, 0.5]]))
    np.testing.assert_allclose(found.mean_VD, [[2.0], [4.0]])
    np.testing.assert_allclose(found.num_V, [1.5, 0.5])


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_the_recursion_is_the_pooled_ridge_regression(
    lessons: list[Lesson], order: tuple[int, ...]
) -> None:
    ridge, width = 0.3, lessons[0].columns_ND.shape[1]
    known = blank_ridge(width, lessons[0].share_NV.shape[1], ridge)
    for number in order:
        known = stream_ridge(known, lessons[number].columns_ND, lessons[number].share_NV)
    pooled_ND = np.concatenate([lesson.columns_ND for lesson in lessons])
    asked_NV = np.concatenate([lesson.share_NV for lesson in lessons])
    gram_DD = pooled_ND.T @ pooled_ND + ridge * np.eye(width)
    expected_DV = np.linalg.solve(gram_DD, pooled_ND.T @ asked_NV)
    np.testing.assert_allclose(known.weight_DV, expected_DV, atol=1e-8)
    np.testing.assert_allclose(known.inverse_DD @ gram_DD, np.eye(width), atol=1e-8)


def test_recursive_ridge_tells_what_the_same_rows_at_once_would_tell(stage: Stage) -> None:
    reversed_stage = replace(
        stage, joined=replace(stage.joined, datasets=stage.joined.datasets[::-1])
    )
    forth, back = METHODS["ACIL"](stage), METHODS["ACIL"](reversed_stage)
    for rows in stage.joined.datasets:
        np.testing.assert_allclose(forth.tell(rows), back.tell(rows), atol=1e-4)


def test_shrinking_by_hand() -> None:
    covariance_DD = np.array([[2.0, 1.0], [1.0, 4.0]])  # mean variance 3, mean covariance 1
    shrunk_DD = np.array([[2.0 + 0.5 * 3 + 1e-3, 1.5], [1.5, 4.0 + 0.5 * 3 + 1e-3]])
    root_D = np.sqrt(np.diagonal(shrunk_DD))
    expected_DD = shrunk_DD / np.outer(root_D, root_D)
    np.testing.assert_allclose(shrink_and_normalise(covariance_DD, 0.5), expected_DD)


def test_distances_are_mahalanobis_distances() -> None:
    generator = np.random.default_rng(0)
    rows_ND, root_DD = generator.normal(size=(5, 3)), generator.normal(size=(3, 3))
    gaussian = ViewGaussian(0, generator.normal(size=3), root_DD @ root_DD.T)
    gap_ND = rows_ND - gaussian.mean_D
    inverse_DD = np.linalg.inv(shrink_and_normalise(gaussian.covariance_DD, 0.1))
    expected_N = np.einsum("nd,de,ne->n", gap_ND, inverse_DD, gap_ND)
    np.testing.assert_allclose(squared_distances(rows_ND, gaussian, 0.1), expected_N)


def test_without_covariance_the_nearest_mean_is_nearest() -> None:
    rows_ND = np.random.default_rng(0).normal(size=(6, 4))
    gaussian = ViewGaussian(0, np.ones(4), 2.0 * np.eye(4))
    expected_N = ((rows_ND - 1.0) ** 2).sum(axis=1)
    np.testing.assert_allclose(squared_distances(rows_ND, gaussian, 1.0), expected_N)


def test_gaussians_of_views_have_the_moments_of_their_rows() -> None:
    rows_ND = np.random.default_rng(0).normal(size=(40, 3))
    view_N = np.arange(40) % 2
    first, second = describe_views(rows_ND, np.eye(3)[view_N])
    assert (first.view, second.view) == (0, 1)
    np.testing.assert_allclose(second.mean_D, rows_ND[view_N == 1].mean(axis=0))
    np.testing.assert_allclose(
        second.covariance_DD, np.cov(rows_ND[view_N == 1], rowvar=False, bias=True)
    )


def test_one_gaussian_has_the_moments_of_the_label(lessons: list[Lesson]) -> None:
    lesson = lessons[0]
    for label, found in enumerate(describe_labels(lesson, 1, seed=0)):
        rows_ND = lesson.columns_ND[lesson.rows.label_N == label]
        assert found.num == len(rows_ND)
        np.testing.assert_allclose(found.mean_KD[0], rows_ND.mean(axis=0))
        np.testing.assert_allclose(found.variance_KD[0], np.maximum(rows_ND.var(axis=0), 1e-3))


def test_a_mixture_keeps_the_mean_of_the_label(lessons: list[Lesson]) -> None:
    lesson = lessons[0]
    for label, found in enumerate(describe_labels(lesson, 3, seed=0)):
        assert len(found.weight_K) == 3
        rows_ND = lesson.columns_ND[lesson.rows.label_N == label]
        np.testing.assert_allclose(found.weight_K @ found.mean_KD, rows_ND.mean(axis=0), atol=1e-6)


def test_samples_have_the_moments_of_their_mixture() -> None:
    mixture = LabelMixture(
        num=200_000,
        share_V=np.array([0.5, 0.5]),
        weight_K=np.array([0.25, 0.75]),
        mean_KD=np.array([[0.0, 4.0], [4.0, 0.0]]),
        variance_KD=np.array([[1.0, 0.5], [2.0, 1.0]]),
    )
    columns_ND, share_NV = draw_samples([mixture], np.random.default_rng(0))
    # four deviations of a mean over so many samples
    np.testing.assert_allclose(columns_ND.mean(axis=0), [3.0, 1.0], atol=0.02)
    between = 0.25 * 0.75 * 16.0
    np.testing.assert_allclose(columns_ND.var(axis=0), [1.75 + between, 0.875 + between], rtol=0.02)
    assert (share_NV == 0.5).all()


def test_the_base_experts_own_views_are_told_by_its_frozen_logits(
    stage: Stage, lessons: list[Lesson]
) -> None:
    columns, base = arrange_columns(stage), stage.joined.blocks[0]
    head = learn_beside(columns, lessons, base.expert, 0.01, 0)
    is_own_V = torch.from_numpy(np.isin(columns.space.views, base.views))
    assert not head.weight_VD[is_own_V].any()
    assert not head.weight_VD[:, base.feature_width :].any()
    later_V = torch.from_numpy(lessons[-1].knows_V) & ~is_own_V
    assert head.weight_VD[later_V].abs().sum(dim=1).min() > 0


def test_a_view_of_the_base_expert_is_frozen_once_it_came(
    stage: Stage, lessons: list[Lesson]
) -> None:
    columns, base = arrange_columns(stage), stage.joined.blocks[0].expert
    second = learn_beside(columns, lessons[:2], base, 0.01, 0)
    third = learn_beside(columns, lessons, base, 0.01, 0)
    was_there_V = torch.from_numpy(lessons[1].knows_V)
    assert torch.equal(third.weight_VD[was_there_V], second.weight_VD[was_there_V])


def test_the_oracle_tells_what_a_datasets_own_expert_tells(stage: Stage) -> None:
    teller = METHODS["oracle expert"](stage)
    for rows, block in zip(stage.joined.datasets, stage.joined.blocks, strict=True):
        own_NV = tell_alone(rows, stage.joined.blocks, teller.views, expert=block.expert)
        assert np.array_equal(teller.tell(rows), own_NV)


def test_the_oracle_tells_nothing_of_a_dataset_whose_expert_is_not_there(
    world_stream: Stream,
) -> None:
    teller = METHODS["oracle expert"](world_stream.stage(1))
    experts = [world_stream.arrivals()[0].expert]
    everything = world_stream.bank.join(experts).datasets
    is_told = [not np.isnan(teller.tell(rows)).any() for rows in everything]
    assert is_told == [True, False, False]
