"""The benchmark's tables: one stream each, the same cells on screen and in Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass

from aggregator.benchmark.goals import Goal
from aggregator.benchmark.intervals import Interval
from aggregator.benchmark.summary import FINAL, MethodSummary, Spread, StreamSummary

_MISSING = "-"
_TELLS = {FINAL: "at the end", "macro_f1_average_incremental": "mean over increments"}
_KEEPS = {
    "macro_f1_forgetting": "forgetting",
    "macro_f1_backward_transfer": "backward",
    "macro_f1_forward_transfer": "forward",
    "calibration_excess": "calibration",
    "fit_cpu_s": "fit, CPU s",
}


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table of text."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def sheets_of(summary: StreamSummary) -> tuple[Sheet, ...]:
    """Tables of one stream; every one says in a column whether its rows are phantom or real."""
    seeds = ", ".join(str(seed) for seed in summary.seeds)
    name = f"{summary.stream}, seed{'s' * (len(summary.seeds) > 1)} {seeds}"
    gain = f"gain over {summary.paper or 'the paper'} [95 %]"
    origin, methods = summary.origin, summary.methods
    found = [
        Sheet(
            f"{name}: macro-F1 of {summary.num_clips:.0f} test clips a seed",
            ("method", "rows", *_TELLS.values(), gain),
            tuple((m.method, origin, *_cells(m, _TELLS), show_gain(m.gain)) for m in methods),
        ),
        Sheet(
            f"{name}: what is kept of it, and what it costs",
            ("method", "rows", *_KEEPS.values()),
            tuple((m.method, origin, *_cells(m, _KEEPS)) for m in methods),
        ),
        Sheet(
            f"{name}: macro-F1 at the end, by dataset",
            ("method", "rows", *summary.datasets),
            tuple(
                (m.method, origin, *(show(m.by_dataset.get(one)) for one in summary.datasets))
                for m in methods
            ),
        ),
    ]
    if summary.auroc:
        kinds = ("new scanner", "unseen view")
        found.append(
            Sheet(
                f"{name}: AUROC of what is home against what is foreign",
                ("id scalar, or nearest of all experts", "rows", *kinds),
                tuple(
                    (source, origin, *(show(by_kind.get(kind)) for kind in kinds))
                    for source, by_kind in summary.auroc.items()
                ),
            )
        )
    found.append(goal_sheet(f"{name}: what {summary.default} is to reach", summary.goals, origin))
    return tuple(found)


def goal_sheet(title: str, goals: Sequence[Goal], origin: str) -> Sheet:
    """What was to be reached, and whether it was."""
    rows = tuple((one.goal, origin, _measured(one), one.reached) for one in goals)
    return Sheet(title, ("goal", "rows", "measured", "reached"), rows)


def markdown(heading: str, sheets: Sequence[Sheet], pictures: Sequence[str] = ()) -> str:
    """Tables under a heading, pictures before them."""
    parts = [f"### {heading}"]
    parts += [f"![{name.removesuffix('.png')}]({name})" for name in pictures]
    for sheet in sheets:
        lines = [sheet.columns, ("---",) * len(sheet.columns), *sheet.rows]
        parts += [f"{sheet.title}.", "\n".join(f"| {' | '.join(line)} |" for line in lines)]
    return "\n\n".join(parts) + "\n"


def show(value: Spread | None, digits: int = 3) -> str:
    """Mean and deviation over seeds."""
    if value is None:
        return _MISSING
    tail = "" if value.sd is None else f" ± {value.sd:.{digits}f}"
    return f"{value.mean:.{digits}f}{tail}"


def show_gain(gain: Interval | None) -> str:
    """The gain and its interval."""
    if gain is None:
        return _MISSING
    return f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"


def _cells(method: MethodSummary, figures: Sequence[str] | dict[str, str]) -> tuple[str, ...]:
    return tuple(
        show(method.figures.get(name), 2 if name.endswith("_s") else 3) for name in figures
    )


def _measured(goal: Goal) -> str:
    return _MISSING if goal.measured is None else f"{goal.measured:.3f}"
