"""The impact assessment: figures of a candidate beside those of what serves, and their verdicts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from aggregator.change_plan import PLAN_FILE, ChangePlan, Limit, Metric
from aggregator.fusion.paired import PairedClips, figures, recall_of
from shared.errors import Code, EchoFedError
from shared.settings import dump_settings

Source = Literal["bank", "site"]
Verdict = Literal["holds", "misses", "uncertain", "too few", "not asked", "withdrawn"]
_ROUNDING = 1e-9  # 0.90 - 0.05 is not quite 0.85


@dataclass(frozen=True, slots=True)
class Finding:
    """One figure of one dataset before and after.

    Args:
        dataset: ``site/dataset``.
        source: rows of the bank, scored here, or the site's own report.
        figure: ``macro_f1`` and the like, or ``recall`` and a label; empty for no figure at all.
        num_clips: test clips that it rests on.
        before: of the serving fusion, None where it has none.
        after: of the candidate.
        low: lower end of the change's 95 % interval, None where there is none; ``high`` likewise.
        required: the least that the plan lets pass, None where it asks nothing.
        verdict: ``uncertain`` is below that, but not by more than the interval allows for.
    """

    dataset: str
    source: Source
    figure: str
    num_clips: int
    before: float | None
    after: float | None
    low: float | None
    high: float | None
    required: float | None
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Assessment:
    """What a promotion would change.

    Args:
        serving: id of the fusion that serves, empty before the first.
        refused: why the plan does not let it pass; empty where it does.
        unreported: datasets about which their sites sent no figures of the candidate.
    """

    candidate: str
    serving: str
    plan: ChangePlan
    plan_hash: str
    findings: tuple[Finding, ...]
    refused: tuple[str, ...]
    unreported: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """Everything as JSON values."""
        return {
            "candidate": self.candidate,
            "serving": self.serving,
            "plan": dump_settings(self.plan),
            "plan_hash": self.plan_hash,
            "findings": [asdict(one) for one in self.findings],
            "refused": list(self.refused),
            "unreported": list(self.unreported),
        }

    def record(self) -> dict[str, Any]:
        """What the ledger keeps of it: no floats, and what the plan asks nothing of left out."""
        kept = [one for one in self.findings if one.verdict != "not asked"]
        return {
            "fusion": self.candidate,
            "before": self.serving,
            "plan": self.plan_hash,
            "figures": [
                f"{one.dataset} {one.source} {one.figure or 'none'} n={one.num_clips} "
                f"{told(one.before)} -> {told(one.after)} (least {told(one.required)}): "
                f"{one.verdict}"
                for one in kept
            ],
        }


def judge(
    plan: ChangePlan,
    dataset: str,
    source: Source,
    clips: PairedClips,
    intervals: Mapping[str, tuple[float, float]],
) -> Iterator[Finding]:
    """Every figure of a dataset that a plan can ask of, with its verdict.

    Args:
        plan: what is asked.
        dataset: ``site/dataset``.
        source: whose figures these are.
        clips: what both fusions made of the held-out clips.
        intervals: 95 % intervals of the change by figure, as far as there are some.

    Raises:
        EchoFedError: CONFIG_INVALID where the plan asks more than any fusion can reach.
    """
    counts_KK = clips.after_PKK.sum(axis=0)
    after, before = figures(counts_KK, clips.labels), dict[str, float]()
    if clips.before_PKK is not None:
        before = figures(clips.before_PKK.sum(axis=0), clips.labels)
    for figure, num_clips, minimum, limit in _asked(plan, dataset, clips):
        required = None if limit is None else limit.required(before.get(figure))
        if required is not None and required > 1 + _ROUNDING:
            raise EchoFedError(
                Code.CONFIG_INVALID,
                f"{PLAN_FILE} asks {required:.3f} for {figure} of {dataset}, which none can reach",
                "a max_loss below 0 asks for a gain; raise it",
            )
        low, high = intervals.get(figure, (None, None))
        yield Finding(
            dataset=dataset,
            source=source,
            figure=figure,
            num_clips=num_clips,
            before=before.get(figure),
            after=after[figure],
            low=low,
            high=high,
            required=required,
            verdict=_verdict(
                after[figure],
                required,
                at_best=after[figure] if high is None else before[figure] + high,
                is_enough=num_clips >= minimum,
            ),
        )


def no_figure(dataset: str, verdict: Verdict) -> Finding:
    """A dataset of which the bank has nothing to score."""
    return Finding(dataset, "bank", "", 0, None, None, None, None, None, verdict)


def reasons(plan: ChangePlan, findings: Sequence[Finding]) -> tuple[str, ...]:
    """Why the plan does not let a candidate with these findings pass; empty where it does."""
    found = []
    for one in findings:
        where = f"{one.figure or 'any figure'} of {one.dataset} ({one.source})"
        if one.verdict == "misses":
            found.append(f"{where} is {told(one.after)}, the plan asks {told(one.required)}")
        elif one.verdict in ("too few", "uncertain") and plan.uncertain == "refuse":
            found.append(f"{where} on {one.num_clips} clips is {one.verdict}, the plan wants proof")
    return tuple(found)


def told(figure: float | None) -> str:
    """Three decimals, or a dash."""
    return "-" if figure is None else f"{figure:.3f}"


def _asked(
    plan: ChangePlan, dataset: str, clips: PairedClips
) -> Iterator[tuple[str, int, int, Limit | None]]:
    """Figures by name, the clips they rest on, the clips they need, and the limit on them."""
    num_K = clips.after_PKK.sum(axis=(0, 2)).tolist()
    for metric in get_args(Metric):
        limit = plan.limit_of_metric(dataset, metric)
        yield metric, sum(num_K), plan.minimum_clips.dataset, limit
    for label, views, num in zip(clips.labels, clips.label_views, num_K, strict=True):
        if num and views:
            limit = plan.limit_of_label(dataset, views)
            yield recall_of(label), num, plan.minimum_clips.view, limit


def _verdict(after: float, required: float | None, *, at_best: float, is_enough: bool) -> Verdict:
    if required is None:
        return "not asked"
    if not is_enough:
        return "too few"
    if after >= required - _ROUNDING:
        return "holds"
    return "uncertain" if at_best >= required - _ROUNDING else "misses"
