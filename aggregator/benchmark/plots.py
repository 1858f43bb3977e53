"""The benchmark's pictures, from plain arrays: lines carry their names, colours are safe."""

import io
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from numpy.typing import NDArray

from aggregator.benchmark.selective import RiskCoverage

_COLOURS = ("#0072B2", "#D55E00", "#007A5A", "#9F4A7B", "#333333")  # after Okabe and Ito, darker
_STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
_GREY = "#BBBBBB"
_SIZE_INCH = (6.4, 3.8)
_DPI = 120
_GAP = 0.055  # of the height of the axes, between two names


def to_png(figure: Figure) -> bytes:
    """The picture on white, the same bytes every time."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def plot_increments(
    accuracy: Mapping[str, Sequence[float]], *, named: Sequence[str], title: str, what: str
) -> Figure:
    """A figure after each increment: some methods by name, the others grey behind them.

    Args:
        accuracy: method -> value after one, two, ... datasets; NaN where it was not measured.
        named: methods that get a colour and their name, at most five.
        title: above the picture.
        what: is measured; stands at the axis.
    """
    figure, axes = _axes(title)
    others = [name for name in accuracy if name not in named]
    for name in others:
        values = accuracy[name]
        axes.plot(range(1, len(values) + 1), values, color=_GREY, linewidth=0.8, zorder=1)
    ends: dict[str, tuple[float, float]] = {}
    for place, name in enumerate(named):
        values = accuracy[name]
        axes.plot(range(1, len(values) + 1), values, **_line(place), marker="o", markersize=3.5)
        ends[name] = float(len(values)), float(values[-1])
    if others:
        axes.text(
            0.01, 0.02, f"grey: other methods ({len(others)})", **_small(axes), color="#777777"
        )
    stages = max(len(values) for values in accuracy.values())
    axes.set_xticks(range(1, stages + 1))
    axes.set_xlabel("datasets that have arrived", fontsize=9)
    axes.set_ylabel(what, fontsize=9)
    _name_ends(axes, ends)
    return figure


def plot_id_scores(
    home_N: NDArray[np.float64], foreign: Mapping[str, NDArray[np.float64]], *, title: str
) -> Figure:
    """How much at home frames of known scanners seem, against each kind of foreign ones.

    Args:
        home_N: id scalars in [0, 1] of held-out frames of datasets that were learned from.
        foreign: kind -> id scalars of such frames.
        title: above the picture.
    """
    figure = Figure(
        figsize=(_SIZE_INCH[0], 1.5 + 1.5 * len(foreign)), layout="constrained", facecolor="white"
    )
    panels = figure.subplots(len(foreign), 1, sharex=True, squeeze=False)[:, 0]
    bins = np.linspace(0.0, 1.0, 41)
    for axes, (kind, foreign_N) in zip(panels, foreign.items(), strict=True):
        shares = []
        for values_N, colour in ((home_N, _COLOURS[0]), (foreign_N, _COLOURS[1])):
            share_B = np.histogram(values_N, bins)[0] / max(len(values_N), 1)
            axes.stairs(share_B, bins, color=colour, fill=True, alpha=0.3)
            axes.stairs(share_B, bins, color=colour, linewidth=1.4)
            shares.append(share_B)
        _bare(axes)
        axes.set_ylim(0, 1.25 * max(share_B.max() for share_B in shares))
        axes.set_ylabel("share of frames", fontsize=9)
        for place, (name, values_N) in enumerate((("home", home_N), (kind, foreign_N))):
            axes.text(
                0.3,
                0.93 - 0.13 * place,
                f"{name} ({len(values_N)})",
                **_small(axes),
                color=_COLOURS[place],
                va="top",
            )
    panels[0].set_title(title, loc="left", fontsize=10)
    panels[-1].set_xlabel("id scalar: 1 - p(no expert is at home)", fontsize=9)
    return figure


def plot_risk_coverage(curves: Mapping[str, RiskCoverage], *, title: str) -> Figure:
    """Selective accuracy: the share of right answers when only the surest clips are answered."""
    figure, axes = _axes(title)
    ends: dict[str, tuple[float, float]] = {}
    least = 1.0
    for place, (name, curve) in enumerate(curves.items()):
        shown_N = curve.coverage_N >= min(0.1, curve.coverage_N[-1])  # fewer clips are chance
        accuracy_N = 1.0 - curve.risk_N[shown_N]
        axes.plot(curve.coverage_N[shown_N], accuracy_N, **_line(place))
        ends[name] = 1.0, float(accuracy_N[-1])
        least = min(least, float(accuracy_N.min()))
    axes.set_ylim(least - 0.08 * (1.0 - least) - 1e-3, 1.0 + 0.02 * (1.0 - least) + 1e-3)
    axes.set_xlabel("coverage: share of clips that are answered, surest first", fontsize=9)
    axes.set_ylabel("accuracy on them", fontsize=9)
    _name_ends(axes, ends)
    return figure


def plot_cost(
    num_experts: Sequence[int], frames_per_cpu_s: Mapping[str, Sequence[float]], *, title: str
) -> Figure:
    """Inference speed as experts are added, by kind of expert; both axes logarithmic."""
    figure, axes = _axes(title)
    ends: dict[str, tuple[float, float]] = {}
    for place, (name, values) in enumerate(frames_per_cpu_s.items()):
        axes.plot(num_experts, values, **_line(place), marker="o", markersize=3.5)
        ends[name] = float(num_experts[-1]), float(values[-1])
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=10)
    axes.set_xticks(list(num_experts), [str(number) for number in num_experts])
    axes.minorticks_off()
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("experts", fontsize=9)
    axes.set_ylabel("frames per CPU second", fontsize=9)
    _name_ends(axes, ends)
    return figure


def _axes(title: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=_SIZE_INCH, layout="constrained", facecolor="white")
    axes = figure.subplots()
    axes.set_title(title, loc="left", fontsize=10)
    _bare(axes)
    axes.grid(axis="y", color="#EEEEEE", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _bare(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def _line(place: int) -> dict[str, Any]:
    """Colour and dashes, so that lines are told apart without colour too."""
    return {
        "color": _COLOURS[place % len(_COLOURS)],
        "linestyle": _STYLES[place % len(_STYLES)],
        "linewidth": 1.8,
        "zorder": 3,
    }


def _small(axes: Any) -> dict[str, Any]:
    return {"transform": axes.transAxes, "fontsize": 8}


def _name_ends(axes: Any, ends: Mapping[str, tuple[float, float]]) -> None:
    """Write each line's name at its right end, moved apart where they would touch."""
    axes.autoscale_view()
    to_axes = axes.transData + axes.transAxes.inverted()
    height = {name: float(to_axes.transform(point)[1]) for name, point in ends.items()}
    colour = {name: _line(place)["color"] for place, name in enumerate(ends)}
    order = sorted((name for name in ends if np.isfinite(height[name])), key=height.__getitem__)
    for lower, upper in pairwise(order):
        height[upper] = max(height[upper], height[lower] + _GAP)
    for place, name in enumerate(reversed(order)):
        height[name] = min(height[name], 1.0 - place * _GAP)
    for name in order:
        axes.annotate(
            name,
            (1.0, height[name]),
            xycoords="axes fraction",
            xytext=(4, 0),
            textcoords="offset points",
            fontsize=8,
            color=colour[name],
            va="center",
        )
