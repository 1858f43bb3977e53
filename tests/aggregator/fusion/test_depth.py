"""Scores by depth: hits at a leaf are hits above it, and a label counts where it is one value."""

from dataclasses import replace

import numpy as np
import pytest

from aggregator.fusion.depth import score_depths
from aggregator.joined_rows import DatasetRows, JoinedRows
from shared.echo.label_sets import possible_views
from shared.echo.ontology import DEPTHS, load_ontology
from shared.models.fused import union_views


@pytest.fixture
def south(joined: JoinedRows) -> DatasetRows:
    """A4C, PSAX-AV and PSAX-PM; the union has the planes A2C, A3C, A4C, PLAX and PSAX."""
    return joined.datasets[1]


def random_log_probabilities(rows: DatasetRows, views: tuple[str, ...], seed: int) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(size=(len(rows.label_N), len(views))) * 2
    logits += 2 * possible_views(rows, views)[rows.label_N]
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def oracle(rows: DatasetRows, views: tuple[str, ...]) -> np.ndarray:
    hits = possible_views(rows, views)[rows.label_N]
    return np.log(hits / np.maximum(hits.sum(axis=1, keepdims=True), 1) + 1e-9)


def test_an_oracle_is_right_at_every_depth(joined: JoinedRows, south: DatasetRows) -> None:
    views = union_views(joined.blocks)
    found = score_depths(south, oracle(south, views), views)
    assert {depth: one.macro_f1 for depth, one in found.items()} == dict.fromkeys(DEPTHS, 1.0)


def test_the_wrong_level_is_right_as_a_plane_and_the_wrong_plane_as_a_window(
    joined: JoinedRows, south: DatasetRows
) -> None:
    views = union_views(joined.blocks)
    turned = {"A4C": "A2C", "PSAX-AV": "PSAX-PM", "PSAX-PM": "PSAX-AV"}
    wrong = replace(south, label_views=tuple((turned[one],) for (one,) in south.label_views))
    found = score_depths(south, oracle(wrong, views), views)
    assert found["leaf"].accuracy == 0.0
    assert found["plane"].accuracy == pytest.approx(2 / 3)
    assert found["window"].accuracy == 1.0


def test_a_sure_hit_stays_one_at_every_coarser_depth(
    joined: JoinedRows, south: DatasetRows, seed: int
) -> None:
    """Where one view has more than half of the probability, so have its plane and its window."""
    views = union_views(joined.blocks)
    told_NV = 20 * random_log_probabilities(south, views, seed)
    told_NV -= np.log(np.exp(told_NV).sum(axis=1, keepdims=True))
    single = replace(south, clip_N=np.arange(len(south.label_N)))
    found = score_depths(single, told_NV, views)
    assert 0 < found["leaf"].accuracy < found["plane"].accuracy < found["window"].accuracy


def test_a_label_of_several_planes_counts_by_window_alone(
    joined: JoinedRows, south: DatasetRows
) -> None:
    views = union_views(joined.blocks)
    coarse = replace(south, label_views=(("apical",), ("PSAX",), ("A4C", "PLAX")))
    found = score_depths(coarse, oracle(coarse, views), views)
    assert "leaf" not in found
    num = south.labels.__len__()
    total = score_depths(south, oracle(south, views), views)["leaf"].num_clips
    assert found["window"].num_clips == 2 * total / num
    assert found["plane"].num_clips == total / num


def test_a_view_that_nobody_owns_is_wrong_as_a_leaf_and_may_be_right_as_a_window(
    joined: JoinedRows, south: DatasetRows
) -> None:
    views = union_views(joined.blocks)
    foreign = replace(south, label_views=(("A5C",), *south.label_views[1:]))
    found = score_depths(foreign, oracle(south, views), views)
    assert found["leaf"].accuracy == found["plane"].accuracy == pytest.approx(2 / 3)
    assert found["window"].accuracy == 1.0


def test_traces_stand_apart_from_pictures_of_the_same_plane() -> None:
    at_depth = load_ontology().at_depth
    assert at_depth("PSAX-PM", "window") == "parasternal"
    assert at_depth("A4C-RV", "plane") == at_depth("A4C-contrast", "plane") == "A4C"
    assert at_depth("mmode-PLAX-AV", "window") == "M-mode"
    assert at_depth("mmode-PLAX-AV", "plane") == at_depth("mmode-PLAX-MV", "plane") != "PLAX"
    assert at_depth("doppler-tissue-RV", "window") == at_depth("doppler-PLAX", "window")
    assert at_depth("lung", "window") == at_depth("lung", "leaf") == "lung"
