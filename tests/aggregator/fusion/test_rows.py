"""Training rows: which count, how much, and what their labels cover."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from aggregator.feature_bank import JoinedRows, select_rows
from aggregator.fusion.rows import fit_scales, scale_rows, training_rows
from shared.models.fused import union_views
from shared.models.fusion import ScoreFusion


def test_datasets_weigh_equally_however_many_rows_they_have(joined: JoinedRows) -> None:
    first = joined.datasets[0]
    thinned = select_rows(first, np.arange(len(first.label_N)) % 3 == 0)
    uneven = replace(joined, datasets=(thinned, *joined.datasets[1:]))
    rows = training_rows(uneven, union_views(joined.blocks), balance=True)
    counts = [int((one.split_N == 0).sum()) for one in uneven.datasets]
    assert counts[0] < 0.5 * counts[1]
    totals = [float(part.sum()) for part in torch.split(rows.weight_N, counts)]
    assert totals == pytest.approx([totals[0]] * 3)
    plain = training_rows(uneven, union_views(joined.blocks), balance=False)
    assert torch.equal(plain.weight_N, torch.ones(sum(counts)))


def test_a_label_targets_all_views_that_it_covers(joined: JoinedRows) -> None:
    views = union_views(joined.blocks)
    south = replace(joined.datasets[1], label_views=(("A4C",), ("PSAX",), ("PSAX-PM", "PLAX")))
    rows = training_rows(replace(joined, datasets=(south,)), views, balance=True)
    labels = south.label_N[south.split_N == 0]
    covered = [{"A4C"}, {"PSAX-AV", "PSAX-PM"}, {"PSAX-PM", "PLAX"}]
    for label, is_target_V in zip(labels, rows.is_target_NV.tolist(), strict=True):
        assert {view for view, marked in zip(views, is_target_V, strict=True) if marked} == (
            covered[label]
        )


def test_a_view_whose_owners_are_unavailable_is_no_target(incomplete: JoinedRows) -> None:
    """East alone owns A3C and has not seen north: a row labelled so could not be learnt."""
    views = union_views(incomplete.blocks)
    north = replace(incomplete.datasets[0], label_views=(("A4C",), ("A3C",), ("apical",)))
    rows = training_rows(replace(incomplete, datasets=(north,)), views, balance=True)
    a3c = views.index("A3C")
    assert not rows.is_target_NV[:, a3c].any()
    assert len(rows) == int(((north.split_N == 0) & (north.label_N != 1)).sum())


def test_scaled_rows_have_unit_spread_where_datasets_weigh_equally(joined: JoinedRows) -> None:
    rows = training_rows(joined, union_views(joined.blocks), balance=True)
    fusion = ScoreFusion(joined.blocks, "discrepancy")
    fit_scales(fusion, rows)
    scaled = scale_rows(fusion, rows)
    share_N = rows.weight_N / rows.weight_N.sum()
    for columns_ND in (scaled.features, scaled.evidence):
        assert (share_N @ columns_ND).abs().max() < 1e-4
        assert (share_N @ columns_ND.square()).max() == pytest.approx(1.0, abs=1e-3)


def test_rows_that_an_expert_did_not_see_do_not_enter_its_scales(incomplete: JoinedRows) -> None:
    views = union_views(incomplete.blocks)
    seen = replace(incomplete, datasets=incomplete.datasets[1:])
    scales = []
    for part in (incomplete, seen):
        fusion = ScoreFusion(incomplete.blocks, "sum")
        fit_scales(fusion, training_rows(part, views, balance=True))
        scales.append(fusion.named_weights())
    east = incomplete.blocks[2].expert
    for name in (f"scale/features/{east}/mean_D", f"scale/evidence/{east}/sd_D"):
        torch.testing.assert_close(scales[0][name], scales[1][name])
