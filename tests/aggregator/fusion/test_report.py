"""The comparison: every method on the same rows, and what nobody can tell by name."""

from dataclasses import replace

from aggregator.fusion.report import compare
from aggregator.joined_rows import JoinedRows
from shared.echo.ontology import DEPTHS
from shared.models.fusion import ScoreFusion


def test_labels_that_nobody_owns_are_listed_and_count_as_wrong(joined: JoinedRows) -> None:
    south = replace(joined.datasets[1], label_views=(("A4C",), ("SSN",), ("PSAX-PM",)))
    strange = replace(joined, datasets=(joined.datasets[0], south))
    report = compare(strange, {"sum": ScoreFusion(joined.blocks, "sum")}, {})
    assert report.unowned == {south.name: (south.labels[1],)}
    assert report.scores["fused sum"][south.name].clips.recall[south.labels[1]] == 0.0


def test_every_variant_is_scored_at_every_depth(joined: JoinedRows) -> None:
    report = compare(joined, {"sum": ScoreFusion(joined.blocks, "sum")}, {})
    assert not report.unowned
    assert set(report.depths["sum"]) == {rows.name for rows in joined.datasets}
    for rows in joined.datasets:
        scored = report.scores["fused sum"][rows.name].clips
        by_depth = report.depths["sum"][rows.name]
        assert tuple(by_depth) == DEPTHS
        assert {one.num_clips for one in by_depth.values()} == {scored.num}
        # the site's own words leave fewer answers than the union does
        assert by_depth["leaf"].accuracy <= scored.accuracy
