"""Training rows: which count, how much, and what their labels cover."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from aggregator.fusion.evaluate import fuse_rows
from aggregator.fusion.rows import fit_scales, scale_rows, training_rows
from aggregator.fusion.train import Provenance, train_fusions
from aggregator.joined_rows import DatasetRows, JoinedRows, select_rows
from aggregator.settings import FusionSettings
from shared.echo.ontology import load_ontology
from shared.errors import Code, EchoFedError
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


@pytest.fixture
def north_with_other(joined: JoinedRows) -> DatasetRows:
    """The first dataset as a site labels it that has no word for PLAX."""
    north = joined.datasets[0]
    leaves = [leaf for view in ("A4C", "A2C") for leaf in load_ontology().leaves(view)]
    return replace(
        north,
        labels=("A4C", "A2C", "rest"),
        label_views=(("A4C",), ("A2C",), ("other",)),
        annotated=tuple(leaves),
        never_images=("A3C",),
    )


def test_other_targets_what_its_site_would_not_have_labelled(
    joined: JoinedRows, north_with_other: DatasetRows
) -> None:
    views = union_views(joined.blocks)
    rows = training_rows(replace(joined, datasets=(north_with_other,)), views, balance=True)
    is_train_N = north_with_other.split_N == 0
    is_rest_N = north_with_other.label_N[is_train_N] == 2
    expected_V = torch.tensor([view not in ("A4C", "A2C") for view in views])
    assert expected_V[views.index("A3C")]
    assert (rows.is_target_NV[torch.from_numpy(is_rest_N)] == expected_V).all()
    assert len(rows) == is_train_N.sum()


@pytest.mark.parametrize("nodes", [("not-sure",), (), ("echo",), ("other", "PLAX")])
def test_rows_whose_label_rules_nothing_out_are_not_learnt_from(
    joined: JoinedRows, nodes: tuple[str, ...]
) -> None:
    """Nothing is annotated here, so other says nothing, and the root leaves every view."""
    north = replace(joined.datasets[0], label_views=(("A4C",), ("A2C",), nodes))
    rows = training_rows(
        replace(joined, datasets=(north,)), union_views(joined.blocks), balance=True
    )
    assert len(rows) == ((north.split_N == 0) & (north.label_N != 2)).sum()


def test_training_with_other_takes_probability_from_what_is_annotated(
    joined: JoinedRows, north_with_other: DatasetRows
) -> None:
    """Of north's rows alone: without its record they say A4C or A2C only.

    The experts' own logits are silent, so that what is told was learnt from these rows.
    """
    silent = tuple(np.zeros_like(own_NC) for own_NC in north_with_other.logits)
    north = replace(north_with_other, logits=silent)
    told = {}
    settings = FusionSettings(variants=("sum",), serve="sum", epochs=3, learning_rate=0.03)
    for record in (north.annotated, ()):
        alone = replace(joined, datasets=(replace(north, annotated=record),))
        fusion = train_fusions(alone, settings, Provenance(created="")).best.fusion
        probabilities_NV = np.exp(fuse_rows(fusion, north).log_probabilities_NV)
        is_rest_N = (north.label_N == 2) & (north.split_N == 2)
        annotated = [fusion.views.index(view) for view in ("A4C", "A2C")]
        told[bool(record)] = probabilities_NV[is_rest_N][:, annotated].sum(axis=1).mean()
    assert told[True] < 0.5 * told[False]


def test_a_bank_that_says_one_thing_only_is_refused(joined: JoinedRows) -> None:
    one = replace(joined.datasets[0], label_views=(("A4C",), (), ("A4C",)))
    with pytest.raises(EchoFedError) as caught:
        training_rows(replace(joined, datasets=(one,)), union_views(joined.blocks), balance=True)
    assert caught.value.code is Code.ONE_CLASS_ONLY


def test_a_dataset_whose_views_nobody_owns_is_refused_by_name(joined: JoinedRows) -> None:
    odd = replace(joined.datasets[1], label_views=(("SSN",), ("SC-4C",), ("not-sure",)))
    strange = replace(joined, datasets=(joined.datasets[0], odd))
    with pytest.raises(EchoFedError, match="south/south-echo") as caught:
        training_rows(strange, union_views(joined.blocks), balance=True)
    assert caught.value.code is Code.EXPERT_UNKNOWN


def test_a_bank_of_labels_that_say_nothing_is_refused(joined: JoinedRows) -> None:
    mute = [replace(rows, label_views=((), ("not-sure",), ())) for rows in joined.datasets]
    with pytest.raises(EchoFedError) as caught:
        training_rows(
            replace(joined, datasets=tuple(mute)), union_views(joined.blocks), balance=True
        )
    assert caught.value.code is Code.FRAMES_MISSING


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


def test_a_fusion_of_one_view_is_refused(joined: JoinedRows) -> None:
    with pytest.raises(EchoFedError, match="fewer than two views") as caught:
        training_rows(joined, ["A4C"], balance=True)
    assert caught.value.code == Code.ONE_CLASS_ONLY
