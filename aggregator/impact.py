"""What the centre holds of a dataset: experts by lineage, exports, fusions, figures."""

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from aggregator.centre import Centre
from aggregator.feature_bank import dataset_name
from aggregator.schema import Fusion
from aggregator.serving import served_models, serving_fusion
from shared.echo.expert import load_fusion
from shared.echo.schema import from_document, to_document
from shared.echo.statistics import STATISTICS
from shared.errors import Code, EchoFedError

IMPACT_VERSION = 1


@dataclass(frozen=True, slots=True)
class AffectedExpert:
    """An expert that goes: trained on the dataset, or started from such an expert."""

    expert: str
    site: str
    datasets: tuple[str, ...]
    sha256: str
    parent: str
    is_descendant: bool


@dataclass(frozen=True, slots=True)
class AffectedExport:
    """An export that goes: of the dataset, or by an expert that goes."""

    export: str
    dataset: str
    expert: str
    sha256: str


@dataclass(frozen=True, slots=True)
class AffectedFusion:
    """A fusion that goes; ``version`` is empty where it was never registered."""

    fusion: str
    sha256: str
    version: str


@dataclass(frozen=True, slots=True)
class Impact:
    """All that a withdrawal takes away, and what keeps it from being exact.

    Args:
        dataset: ``site/dataset``.
        evaluations: figures that sites reported of the dataset, or of a fusion that goes.
        serving: the fusion that serves, if it goes; empty if it stays or none does.
        kept: descendants that stay by the operator's wish.
        untraced: other experts whose ancestors this centre does not know.
        figures_of: the fusion that goes whose figures are the report's "before".
        macro_f1: those figures, of the other datasets only.
    """

    dataset: str
    experts: tuple[AffectedExpert, ...]
    exports: tuple[AffectedExport, ...]
    fusions: tuple[AffectedFusion, ...]
    evaluations: int
    serving: str
    kept: tuple[str, ...]
    untraced: tuple[str, ...]
    figures_of: str
    macro_f1: dict[str, float]
    version: int = IMPACT_VERSION

    def document(self) -> dict[str, Any]:
        """The impact as JSON values."""
        return to_document(self)


def find_impact(centre: Centre, dataset: str, *, keep_descendants: bool = False) -> Impact:
    """Find everything that the centre keeps of a dataset.

    Args:
        centre: the open centre; nothing in it is changed.
        dataset: ``site/dataset``.
        keep_descendants: let experts stay that only started from an affected one; those whose
            trunk goes cannot.

    Raises:
        EchoFedError: DATASET_UNKNOWN with the nearest.
    """
    _expect_known(centre, dataset)
    direct, descendants = _lineage(centre, dataset)
    kept = _separable(centre, direct, descendants) if keep_descendants else frozenset()
    going = (direct | descendants) - kept
    experts = tuple(
        AffectedExpert(
            expert=row.id,
            site=row.site,
            datasets=tuple(row.card["datasets"]),
            sha256=row.weights_sha256,
            parent=str(row.card["parent"]),
            is_descendant=row.id not in direct,
        )
        for row in centre.state.experts()
        if row.id in going
    )
    exports = tuple(
        AffectedExport(e.card.id, dataset_name(e.card), e.card.expert, e.sha256)
        for e in centre.bank.entries()
        if dataset_name(e.card) == dataset or e.card.expert in going
    ) + tuple(
        AffectedExport(e.card.id, e.name, STATISTICS, e.sha256)
        for e in centre.bank.statistics.entries()
        if e.name == dataset or going.intersection(e.experts)
    )
    rows = [row for row in centre.state.fusions() if _holds(row, dataset, going)]
    fusions = tuple(
        AffectedFusion(row.id, _weights_of(centre, row), row.model_version) for row in rows
    )
    serving = serving_fusion(centre.ledger) or ""
    shown = next((row for row in rows if row.id == serving), rows[-1] if rows else None)
    return Impact(
        dataset=dataset,
        experts=experts,
        exports=exports,
        fusions=fusions,
        evaluations=_num_evaluations(centre, dataset, {row.id for row in rows}),
        serving=serving if any(row.id == serving for row in rows) else "",
        kept=tuple(sorted(kept)),
        untraced=_untraced(centre, going),
        figures_of=shown.id if shown else "",
        macro_f1=figures_of(shown, without=dataset) if shown else {},
    )


def begun_impact(centre: Centre, dataset: str) -> Impact | None:
    """What a withdrawal that was cut off takes away; None where none was begun.

    Raises:
        EchoFedError: NOTHING_TO_DO where it is finished.
    """
    for row in centre.state.withdrawals():
        if f"{row.site}/{row.dataset}" != dataset or row.status == "asked":
            continue
        if row.status == "finished":
            raise EchoFedError(
                Code.NOTHING_TO_DO,
                f"{dataset} was withdrawn on {row.since}",
                f"its certificate is ledger entry {row.outcome['certificate']['position']}",
            )
        return from_document(Impact, row.impact, version=IMPACT_VERSION)
    return None


def figures_of(fusion: Fusion, *, without: str) -> dict[str, float]:
    """Clip-level macro-F1 of a fusion on held-out rows of every dataset but one."""
    return {
        name: float(one["clips"]["macro_f1"])
        for name, one in fusion.report["datasets"].items()
        if one["num_frames"] and name != without
    }


def _expect_known(centre: Centre, dataset: str) -> None:
    announced = (*centre.state.announcements(), *centre.state.withdrawn())
    known = {f"{row.site}/{row.dataset}" for row in announced}
    known |= {name for name, _ in centre.bank.contents()}
    known |= {
        f"{row.site}/{name}" for row in centre.state.experts() for name in row.card["datasets"]
    }
    known |= {name for one in served_models(centre.ledger).values() for name in one.datasets}
    if dataset in known:
        return
    near = difflib.get_close_matches(dataset, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known)) or 'none'}"
    raise EchoFedError(Code.DATASET_UNKNOWN, f"no dataset is called {dataset!r} here", hint)


def _lineage(centre: Centre, dataset: str) -> tuple[frozenset[str], frozenset[str]]:
    """Experts trained on the dataset, and those that descend from them only."""
    rows = centre.state.experts()
    direct = frozenset(
        row.id for row in rows if dataset in {f"{row.site}/{name}" for name in row.card["datasets"]}
    )
    parents = _parents(centre)
    found = {row.id for row in rows if direct.intersection(_ancestors(row.id, parents))}
    return direct, frozenset(found - direct)


def _separable(
    centre: Centre, direct: Collection[str], descendants: Collection[str]
) -> frozenset[str]:
    """Descendants that can do without what goes: all but those that look through it."""
    trunks = {row.id: str(row.card.get("trunk", "")) for row in centre.state.experts()}
    return frozenset(name for name in descendants if trunks[name] not in direct)


def _untraced(centre: Centre, going: Collection[str]) -> tuple[str, ...]:
    parents = _parents(centre)
    return tuple(
        row.id
        for row in centre.state.experts()
        if row.id not in going and any(one not in parents for one in _ancestors(row.id, parents))
    )


def _parents(centre: Centre) -> dict[str, str]:
    """Parent of every expert that is or was here; those withdrawn earlier are still ancestors."""
    parents = {
        one["expert"]: str(one["parent"])
        for row in centre.state.withdrawals()
        for one in row.impact.get("experts", ())
    }
    return parents | {row.id: str(row.card["parent"]) for row in centre.state.experts()}


def _ancestors(expert: str, parents: Mapping[str, str]) -> tuple[str, ...]:
    """Parent, its parent and so on; the last one may be unknown here."""
    found: list[str] = []
    while (expert := parents.get(expert, "")) and expert not in found:
        found.append(expert)
    return tuple(found)


def _holds(row: Fusion, dataset: str, experts: Collection[str]) -> bool:
    """Whether a fusion was trained on the dataset or with one of the experts."""
    blocks = set(row.report.get("experts", ()))  # absent from reports of earlier releases
    blocks |= {name for one in row.report["datasets"].values() for name in one["id_scores"]}
    return dataset in row.datasets or not blocks.isdisjoint(experts)


def _weights_of(centre: Centre, row: Fusion) -> str:
    """Hash of a fusion's weights; empty for a checkpoint that is damaged."""
    try:
        return load_fusion(centre.fusion_folder(row.id))[0].weights_sha256
    except EchoFedError:
        return ""


def _num_evaluations(centre: Centre, dataset: str, fusions: Collection[str]) -> int:
    return sum(
        f"{one.site}/{one.dataset}" == dataset or one.fusion in fusions
        for row in centre.state.fusions()
        for one in centre.state.evaluations(row.id)
    )
