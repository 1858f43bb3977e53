"""Pictures: the same bytes every time, small, with a name at every line that counts."""

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.figure import Figure

from aggregator.benchmark.plots import (
    plot_cost,
    plot_id_scores,
    plot_increments,
    plot_risk_coverage,
    to_png,
)
from aggregator.benchmark.selective import risk_coverage

LINES = {f"method {place}": [0.9, 0.8 - 0.001 * place, 0.7] for place in range(9)}


def draw_increments() -> Figure:
    return plot_increments(LINES, named=list(LINES)[:5], title="a stream", what="macro-F1")


def draw_id_scores() -> Figure:
    generator = np.random.default_rng(0)
    foreign = {"new scanner": generator.random(50), "unseen view": generator.random(60)}
    return plot_id_scores(generator.random(300), foreign, title="a stream")


def draw_risk_coverage() -> Figure:
    generator = np.random.default_rng(0)
    curve = risk_coverage(generator.random(200), generator.random(200) < 0.8)
    return plot_risk_coverage({"mine": curve, "theirs": curve}, title="a stream")


def draw_cost() -> Figure:
    return plot_cost([1, 8], {"full experts": [80.0, 10.0], "shared trunk": [80, 70]}, title="cost")


DRAW = [draw_increments, draw_id_scores, draw_risk_coverage, draw_cost]


@pytest.mark.parametrize("draw", DRAW)
def test_a_picture_is_a_small_png_and_the_same_again(draw) -> None:  # type: ignore[no-untyped-def]
    png = to_png(draw())
    assert png.startswith(b"\x89PNG")
    assert len(png) < 100_000
    assert to_png(draw()) == png


def test_names_of_lines_that_end_together_do_not_touch() -> None:
    figure = draw_increments()
    figure.draw_without_rendering()
    names = [text for text in figure.axes[0].texts if text.get_text() in LINES]
    assert len(names) == 5
    boxes = sorted((text.get_window_extent() for text in names), key=lambda box: box.y0)
    assert all(below.y1 <= above.y0 for below, above in pairwise(boxes))


def test_other_methods_stand_behind_in_grey_and_are_counted() -> None:
    axes = draw_increments().axes[0]
    assert len({line.get_color() for line in axes.lines[:4]}) == 1
    assert "grey: other methods (4)" in [text.get_text() for text in axes.texts]
