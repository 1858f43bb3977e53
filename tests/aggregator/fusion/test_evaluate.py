"""Held-out scores: only plain, labelled rows of the split, in the dataset's own words."""

from dataclasses import replace

import numpy as np

from aggregator.fusion.evaluate import fuse_rows, is_scored, macro_score, score_rows
from aggregator.joined_rows import JoinedRows
from shared.echo.ontology import load_ontology
from shared.models.fused import union_views
from shared.models.fusion import ScoreFusion


def told_by_truth(joined: JoinedRows, place: int) -> np.ndarray:
    """Log-probabilities of an oracle over the union views."""
    rows, views = joined.datasets[place], union_views(joined.blocks)
    names = [rows.label_views[label][0] for label in rows.label_N]
    return np.log(np.array([[view == name for view in views] for name in names]) + 1e-9)


def test_an_oracle_scores_one_on_every_level(joined: JoinedRows) -> None:
    for place, rows in enumerate(joined.datasets):
        scores = score_rows(rows, told_by_truth(joined, place), union_views(joined.blocks))
        assert scores is not None
        assert scores.frames.macro_f1 == scores.clips.macro_f1 == 1.0
        assert scores.frames.num == int(((rows.split_N == 2) & (rows.pass_N == 0)).sum())
        assert scores.clips.num == len(np.unique(rows.clip_N[rows.split_N == 2]))


def test_augmented_and_unlabelled_rows_are_not_scored(joined: JoinedRows) -> None:
    rows = replace(joined.datasets[0], label_views=(("A4C",), (), ("PLAX",)))
    train = is_scored(rows, "train")
    assert (rows.pass_N[train] == 0).all()
    assert (rows.label_N[train] != 1).all()
    assert train.any()


def test_other_is_scored_as_the_sum_of_what_it_leaves(joined: JoinedRows) -> None:
    """An oracle says PLAX where north, which has no word for it, says other."""
    views = union_views(joined.blocks)
    leaves = [leaf for view in ("A4C", "A2C") for leaf in load_ontology().leaves(view)]
    words = (("A4C",), ("A2C",), ("other",))
    north = replace(joined.datasets[0], label_views=words, annotated=tuple(leaves))
    scores = score_rows(north, told_by_truth(joined, 0), views)
    assert scores is not None
    assert scores.clips.macro_f1 == 1.0
    assert len(scores.clips.f1) == 3
    silent = score_rows(replace(north, annotated=()), told_by_truth(joined, 0), views)
    assert silent is not None
    assert len(silent.clips.f1) == 2


def test_a_dataset_without_a_scored_row_does_not_count(joined: JoinedRows) -> None:
    rows = joined.datasets[0]
    views = union_views(joined.blocks)
    bare = replace(rows, split_N=np.zeros_like(rows.split_N))
    full = score_rows(rows, told_by_truth(joined, 0), views)
    none = score_rows(bare, told_by_truth(joined, 0), views)
    assert none is None
    assert macro_score([full, none]) == 1.0


def test_rows_are_fused_alike_in_parts_and_at_once(joined: JoinedRows) -> None:
    rows = joined.datasets[0]
    tiled = replace(
        rows,
        label_N=np.tile(rows.label_N, 20),
        features=tuple(np.tile(array, (20, 1)) for array in rows.features),
        logits=tuple(np.tile(array, (20, 1)) for array in rows.logits),
        evidence=tuple(np.tile(array, (20, 1)) for array in rows.evidence),
    )
    fusion = ScoreFusion(joined.blocks, "attention", seed=1)
    once, often = fuse_rows(fusion, rows), fuse_rows(fusion, tiled)
    assert len(often.id_scores_NE) > 4096
    np.testing.assert_allclose(
        often.log_probabilities_NV, np.tile(once.log_probabilities_NV, (20, 1)), atol=1e-5
    )
