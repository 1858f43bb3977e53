"""The change plan: what a candidate must show before it may serve, and who may approve it.

It lies beside the centre's settings as ``change_plan.yaml``, written before the change that it
judges; its hash stands in every approval and refusal. Without the file the plan below holds.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from shared.echo.ontology import load_ontology
from shared.errors import Code, EchoFedError
from shared.settings import Settings, load_settings

PLAN_FILE = "change_plan.yaml"
ANYBODY = "*"
Metric = Literal["macro_f1", "balanced_accuracy", "accuracy"]
Name = Annotated[str, Field(min_length=1, max_length=40)]


class Limit(Settings):
    """How low a figure may be; figures are shares of 1."""

    max_loss: Annotated[float, Field(ge=-1, le=1)] | None = None
    """How much less than the serving fusion's; below 0 it must be more."""
    floor: Annotated[float, Field(ge=0, le=1)] | None = None
    """What must be reached where nothing serves, and not be left once it is reached."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.max_loss is None and self.floor is None:
            raise ValueError("names neither max_loss nor floor")
        return self

    def required(self, before: float | None) -> float | None:
        """The least that passes; None where nothing is asked.

        Args:
            before: the serving fusion's figure, None where it has none.
        """
        if before is None:
            return self.floor
        bounds = [] if self.max_loss is None else [before - self.max_loss]
        if self.floor is not None:
            bounds.append(min(self.floor, before))
        return max(0.0, *bounds)


class Demands(Settings):
    """What is asked of every dataset in reach; what is not named is not asked."""

    metrics: dict[Metric, Limit] = Field(default_factory=dict)
    """Limits on clip-level figures of a whole dataset."""
    recall: Limit | None = None
    """Limit on the clip-level recall of every label."""
    views: dict[str, Limit] = Field(default_factory=dict)
    """Limits on the recall of labels that stand for these views, in place of ``recall``."""

    @model_validator(mode="after")
    def _views_exist(self) -> Self:
        ontology = load_ontology()
        for view in self.views:
            if view not in ontology.views:
                nearest = ontology.nearest(view)[0]
                raise ValueError(f"no view is called {view!r}; the nearest is {nearest!r}")
        return self

    def of_label(self, views: Iterable[str]) -> Limit | None:
        """The limit on a label's recall; of several named views the strictest counts."""
        named = [self.views[view] for view in views if view in self.views]
        return _strictest(named) if named else self.recall


class MinimumClips(Settings):
    """Test clips below which a figure decides nothing, whatever its interval says."""

    dataset: Annotated[int, Field(ge=1)] = 50
    """For figures of a dataset."""
    view: Annotated[int, Field(ge=1)] = 20
    """For the recall of a label: one clip moves it by no more than the default's 5 points."""


class ChangePlan(Settings):
    """The whole plan."""

    version: Literal[1] = 1
    """Version of this file's form."""
    approvers: Annotated[tuple[Name, ...], Field(min_length=1)]
    """Who may approve a promotion; ``*`` is anybody who may run the command."""
    everywhere: Demands = Demands(
        metrics={"macro_f1": Limit(max_loss=0.01, floor=0.5)}, recall=Limit(max_loss=0.05)
    )
    """Asked of every dataset."""
    sites: dict[str, Demands] = Field(default_factory=dict)
    """Asked of ``site`` or ``site/dataset`` in place of what ``everywhere`` says of the same."""
    minimum_clips: MinimumClips = MinimumClips()
    """How many test clips a figure needs."""
    uncertain: Literal["report", "refuse"] = "report"
    """What follows from too few clips, and from a loss that is within the 95 % interval of none."""

    @model_validator(mode="after")
    def _demands_something(self) -> Self:
        asked = (self.everywhere, *self.sites.values())
        if not any(one.metrics or one.recall or one.views for one in asked):
            raise ValueError("the plan asks for nothing")
        return self

    def limit_of_metric(self, dataset: str, metric: Metric) -> Limit | None:
        """The limit on a figure of ``site/dataset``, from the nearest scope that names it."""
        limits = (scope.metrics.get(metric) for scope in self._scopes(dataset))
        return next((limit for limit in limits if limit is not None), None)

    def limit_of_label(self, dataset: str, views: Sequence[str]) -> Limit | None:
        """The limit on the recall of a label that stands for these views."""
        limits = (scope.of_label(views) for scope in self._scopes(dataset))
        return next((limit for limit in limits if limit is not None), None)

    def may_approve(self, name: str) -> bool:
        """Whether the plan names a person, or anybody."""
        return ANYBODY in self.approvers or name in self.approvers

    def _scopes(self, dataset: str) -> tuple[Demands, ...]:
        named = (self.sites.get(dataset), self.sites.get(dataset.split("/")[0]), self.everywhere)
        return tuple(demands for demands in named if demands is not None)


DEFAULT_PLAN = ChangePlan(approvers=(ANYBODY,))
"""What holds where the centre has no plan of its own."""


def load_plan(folder: Path) -> ChangePlan:
    """The plan in the centre's folder, or the default.

    Raises:
        EchoFedError: CONFIG_UNKNOWN_KEY or CONFIG_INVALID naming the file and the dotted path.
    """
    path = folder / PLAN_FILE
    if not path.exists():
        return DEFAULT_PLAN
    try:
        return load_settings(ChangePlan, path)
    except EchoFedError as error:
        raise EchoFedError(error.code, f"{PLAN_FILE}: {error.message}", error.hint) from error


def expect_known(plan: ChangePlan, known: dict[str, frozenset[str]]) -> None:
    """Refuse a plan that speaks of what is not there, which is most often a slip of the pen.

    Args:
        plan: the plan.
        known: ``site`` and ``site/dataset`` -> views that its labels stand for.

    Raises:
        EchoFedError: CONFIG_INVALID for an unknown site or dataset, VIEW_UNKNOWN for a view that
            none of its labels stands for.
    """
    for scope, demands in plan.sites.items():
        if scope not in known:
            raise EchoFedError(
                Code.CONFIG_INVALID,
                f"{PLAN_FILE}: sites.{scope} is no site or dataset of this federation",
                f"known: {', '.join(sorted(known)) or 'none'}",
            )
        for view in demands.views:
            if view not in known[scope]:
                raise EchoFedError(
                    Code.VIEW_UNKNOWN,
                    f"{PLAN_FILE}: no label of {scope} stands for view {view}",
                    f"its views: {', '.join(sorted(known[scope])) or 'none'}",
                )


def _strictest(limits: Sequence[Limit]) -> Limit:
    losses = [limit.max_loss for limit in limits if limit.max_loss is not None]
    floors = [limit.floor for limit in limits if limit.floor is not None]
    return Limit(max_loss=min(losses) if losses else None, floor=max(floors) if floors else None)
