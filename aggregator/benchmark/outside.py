"""How well a fusion tells what it never learned from: foreign scanners and unseen views.

One dataset after the other is left out with its expert, everything is fitted to the others, and the
test frames of what was left out are *unseen views* or of a *new scanner*, as far as the others
own their views. Where a stream holds foreign datasets, these are the new scanners, told by all
experts, and datasets that were learned from are not: its sites may share a scanner.
"""

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from aggregator.benchmark.stage import Stage
from aggregator.benchmark.stream import Arrival, Stream
from aggregator.fusion.evaluate import is_scored
from aggregator.fusion.novelty import fit_novelty
from aggregator.fusion.rows import own_training_rows
from aggregator.fusion.scorecard import ID_SCALAR, NEAREST, Kind, separation
from aggregator.joined_rows import DatasetRows, select_rows
from shared.echo.label_sets import possible_views
from shared.echo.ontology import load_ontology
from shared.errors import EchoFedError
from shared.evidence import EVIDENCE
from shared.evidence.rows import Evidence
from shared.models.novelty import Novelty, Scorer

log = logging.getLogger(__name__)

Told = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True, eq=False)
class Outside:
    """What the id scalar and single detectors made of what is foreign.

    Args:
        home_N: id scalars of the test frames of datasets that were learned from.
        foreign: kind -> id scalars of foreign test frames.
        auroc: source -> kind -> mean of the areas under the curve, over the datasets that are
            foreign or were left out, or over the views that were unseen.
    """

    home_N: NDArray[np.float64]
    foreign: dict[Kind, NDArray[np.float64]]
    auroc: dict[str, dict[Kind, float]]


@dataclass(frozen=True, slots=True, eq=False)
class _Case:
    """A foreign dataset or one view of it, beside the home frames it is held against."""

    kind: Kind
    name: str
    home: Told
    foreign: Told


@dataclass(frozen=True, slots=True, eq=False)
class _Detector:
    """One evidence of the expert at a place, in deviations of its own training rows."""

    name: str
    place: int
    evidence: Evidence
    mean: float
    sd: float

    def score(self, rows: DatasetRows) -> NDArray[np.float64]:
        """How much at home the expert is in each row (N)."""
        value_N = self.evidence.score(rows.features[self.place], rows.logits[self.place])
        return (value_N - self.mean) / self.sd


@dataclass(frozen=True, slots=True, eq=False)
class _Looker:
    """What says how much at home a whole fusion is, and all single detectors, after training."""

    novelty: Novelty
    scorer_of: Callable[[tuple[bool, ...]], Scorer | None]
    detectors: tuple[_Detector, ...]

    def look(self, rows: DatasetRows) -> Told:
        """The id scalar of each row, and the nearest of all experts by every evidence."""
        told: Told = {}
        scorer = self.scorer_of(rows.available)
        if scorer is not None:
            score_N = scorer.score(rows.features, rows.logits, rows.evidence)
            told[ID_SCALAR] = self.novelty.id_scalar(score_N)
        for one in self.detectors:
            if rows.available[one.place]:
                value_N = one.score(rows)
                told[one.name] = np.maximum(told.get(one.name, value_N), value_N)
        return told


def look_outside(stream: Stream) -> Outside | None:
    """Learn without each dataset and look at what was not learned; None where nothing is foreign.

    The id scalar stands beside every variant of the fusion and is the same for all.
    """
    cases = [one for one in _cases(stream) if ID_SCALAR in one.home.keys() & one.foreign.keys()]
    if not cases:
        return None
    foreign: dict[Kind, list[NDArray[np.float64]]] = {}
    for case in cases:
        foreign.setdefault(case.kind, []).append(case.foreign[ID_SCALAR])
    homes = {id(case.home): case.home[ID_SCALAR] for case in cases}
    return Outside(
        home_N=np.concatenate(list(homes.values())),
        foreign={kind: np.concatenate(parts) for kind, parts in foreign.items()},
        auroc=_areas(cases),
    )


def _cases(stream: Stream) -> Iterator[_Case]:
    learned = stream.arrivals()
    foreign = [one for one in stream.record.arrivals if one.is_foreign]
    if foreign:
        yield from _hold_against(stream, learned, foreign)
    for left_out in learned if len(learned) > 1 else ():
        known = [one for one in learned if one is not left_out]
        for case in _hold_against(stream, known, [left_out]):
            if case.kind == "unseen view" or not foreign:
                yield case


def _hold_against(
    stream: Stream, known: Sequence[Arrival], foreign: Sequence[Arrival]
) -> Iterator[_Case]:
    """Learn from some datasets and look at others."""
    stage = stream.stage_of(known)
    homes: dict[str, list[str]] = {}
    for name, expert in stage.homes.items():
        homes.setdefault(expert, []).append(name)
    novelty = fit_novelty(stage.joined, homes)
    if novelty is None:
        return
    looker = _Looker(novelty, cache(novelty.scorer), tuple(_fit_detectors(stage)))
    home = _below([looker.look(_test_rows(rows)) for rows in stage.joined.datasets])
    seen = stream.bank.join(
        [one.expert for one in known], {one.name: one.content for one in foreign}
    )
    owned = {view for block in seen.blocks for view in block.views}
    for rows in map(_test_rows, seen.datasets):
        for kind, name, keep_N in _foreign_parts(rows, owned):
            yield _Case(kind, name, home, looker.look(select_rows(rows, keep_N)))


def _fit_detectors(stage: Stage) -> Iterator[_Detector]:
    for place, block in enumerate(stage.joined.blocks):
        home = [name for name, expert in stage.homes.items() if expert == block.expert]
        try:
            own = own_training_rows(stage.joined, place, home)
            fitted = {name: EVIDENCE[name].fit(own) for name in EVIDENCE.names()}
        except EchoFedError as error:  # of too few patients, say: this expert has no detector
            log.warning("expert %s has no detector: %s", block.expert, error.code.name)
            continue
        for name, evidence in fitted.items():
            own_N = evidence.score(own.features_ND, own.logits_NC)
            mean, sd = float(own_N.mean()), float(own_N.std()) or 1.0
            yield _Detector(NEAREST + name, place, evidence, mean, sd)


def _test_rows(rows: DatasetRows) -> DatasetRows:
    return select_rows(rows, is_scored(rows, "test"))


def _foreign_parts(
    rows: DatasetRows, owned: Collection[str]
) -> Iterator[tuple[Kind, str, NDArray[np.bool_]]]:
    """Rows of views that are known, together; rows of each label that is not, by itself.

    A label that is wider or finer than what is known is neither.
    """
    ontology = load_ontology()
    nodes = {node for nodes in rows.label_views for node in nodes}
    views = (*sorted(owned), *sorted(nodes - set(owned)))
    is_owned_V = np.array([view in owned for view in views])
    possible_KV = possible_views(rows, views)
    is_wider_K = np.array(
        [
            any(ontology.is_at_or_below(node, view) for node in nodes for view in owned)
            for nodes in rows.label_views
        ]
    )
    num_owned_K, num_K = possible_KV[:, is_owned_V].sum(axis=1), possible_KV.sum(axis=1)
    is_known_K = (num_K > 0) & (num_owned_K == num_K)
    is_unseen_K = (num_owned_K == 0) & ~is_wider_K
    known_N = is_known_K[rows.label_N]
    if known_N.any():
        yield "new scanner", rows.name, known_N
    for label in np.unique(rows.label_N[is_unseen_K[rows.label_N]]):
        yield "unseen view", " ".join(rows.label_views[label]), rows.label_N == label


def _below(told: Sequence[Told]) -> Told:
    """Datasets below each other; a source that is missing in one is left out."""
    sources = [name for name in told[0] if all(name in one for one in told)]
    return {name: np.concatenate([one[name] for one in told]) for name in sources}


def _areas(cases: Sequence[_Case]) -> dict[str, dict[Kind, float]]:
    """Mean over cases of one name, then over names."""
    found: dict[str, dict[Kind, dict[str, list[float]]]] = {}
    for case in cases:
        for source in case.home.keys() & case.foreign.keys():
            separated = separation(case.home[source], case.foreign[source])
            if separated is not None:
                by_name = found.setdefault(source, {}).setdefault(case.kind, {})
                by_name.setdefault(case.name, []).append(separated.auroc)
    return {
        source: {
            kind: float(np.mean([np.mean(values) for values in by_name.values()]))
            for kind, by_name in by_kind.items()
        }
        for source, by_kind in sorted(found.items())
    }
