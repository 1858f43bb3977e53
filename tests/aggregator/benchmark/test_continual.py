"""Continual figures: closed forms on matrices that can be worked out by hand."""

import numpy as np
import pytest

from aggregator.benchmark.continual import continual_figures
from shared.errors import Code, EchoFedError

NAN = float("nan")
BY_HAND = np.array([[0.9, 0.2, 0.0], [0.7, 0.8, 0.1], [0.8, 0.6, 1.0]])


def test_all_figures_of_a_matrix_worked_out_by_hand() -> None:
    found = continual_figures(BY_HAND, np.array([0.0, 0.1, 0.2]))
    assert found.final == pytest.approx((0.8 + 0.6 + 1.0) / 3)
    assert found.average_incremental == pytest.approx((0.9 + 0.75 + 0.8) / 3)
    assert found.forgetting == pytest.approx(((0.9 - 0.8) + (0.8 - 0.6)) / 2)
    assert found.backward_transfer == pytest.approx(((0.8 - 0.9) + (0.6 - 0.8)) / 2)
    assert found.forward_transfer == pytest.approx(((0.2 - 0.1) + (0.1 - 0.2)) / 2)


def test_forgetting_counts_from_the_best_stage_and_transfer_from_arrival() -> None:
    found = continual_figures(np.array([[0.5, NAN, NAN], [0.9, 0.4, NAN], [0.6, 0.7, 0.3]]))
    assert found.forgetting == pytest.approx(((0.9 - 0.6) + (0.4 - 0.7)) / 2)
    assert found.backward_transfer == pytest.approx(((0.6 - 0.5) + (0.7 - 0.4)) / 2)


def test_a_score_before_arrival_is_no_score_to_forget() -> None:
    scores_TI = np.array([[0.5, 0.9], [0.5, 0.2]])
    assert continual_figures(scores_TI).forgetting == 0.0


def test_what_a_stage_tells_of_datasets_that_have_not_come_counts_for_forward_transfer_only() -> (
    None
):
    lower_TI = np.where(np.tri(3, dtype=bool), BY_HAND, NAN)
    full, lower = continual_figures(BY_HAND), continual_figures(lower_TI)
    assert np.isnan(lower.forward_transfer)
    assert (full.final, full.average_incremental) == (lower.final, lower.average_incremental)
    assert (full.forgetting, full.backward_transfer) == (lower.forgetting, lower.backward_transfer)


def test_a_constant_matrix_forgets_and_transfers_nothing() -> None:
    found = continual_figures(np.full((4, 4), 0.7))
    assert found.final == found.average_incremental == pytest.approx(0.7)
    assert found.forgetting == found.backward_transfer == 0.0


def test_one_dataset_has_nothing_to_forget() -> None:
    found = continual_figures(np.array([[0.8]]))
    assert found.final == found.average_incremental == 0.8
    assert np.isnan([found.forgetting, found.backward_transfer, found.forward_transfer]).all()


def test_scores_of_the_last_stage_alone_give_the_final_figure_alone() -> None:
    found = continual_figures(np.array([[NAN, NAN], [0.6, 0.8]]))
    assert found.final == pytest.approx(0.7)
    assert np.isnan([found.average_incremental, found.forgetting, found.forward_transfer]).all()


def test_a_matrix_that_is_not_square_is_refused() -> None:
    with pytest.raises(EchoFedError) as caught:
        continual_figures(np.zeros((2, 3)))
    assert caught.value.code == Code.SHAPE_MISMATCH
