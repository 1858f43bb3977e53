"""The scorecard: how well every evidence tells what is foreign to an expert from its own rows.

An expert's home is the held-out rows of the datasets that it was trained on. Foreign rows are of
two kinds: those of a *new scanner* are of another dataset and show a view that the expert owns;
an *unseen view* is one that it does not own. Datasets are pooled by rows. Higher = more at home.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from aggregator.fusion.evaluate import fuse_rows, is_scored
from aggregator.fusion.fit import fit_id_scores
from aggregator.fusion.novelty import fit_novelty
from aggregator.fusion.rows import own_training_rows
from aggregator.joined_rows import DatasetRows, JoinedRows, select_rows
from shared.echo.expert import Block
from shared.echo.label_sets import named_views, possible_views
from shared.echo.manifest import Split
from shared.echo.ontology import load_ontology
from shared.errors import EchoFedError
from shared.evidence import EVIDENCE
from shared.evidence.rows import Evidence
from shared.models.blend import Blend
from shared.models.fused import union_views
from shared.models.fusion_weights import FusionModel, copy_shared
from shared.models.novelty import Novelty
from shared.models.union_head import UnionHead

Kind = Literal["new scanner", "unseen view"]
HOME = "home"
ID_SCALAR = "id scalar"
"""How much at home the whole fusion is, whatever its variant: see ``shared.models.novelty``."""
KINDS: tuple[Kind, ...] = ("new scanner", "unseen view")
ID_SCORE = "id score "
"""An expert's own id score is listed as this and the variant's name."""
FUSED_ID = "fused id "
"""The fused id scalar is listed as this and the variant's name."""
NEAREST = "nearest "
"""The highest evidence among experts, each in deviations of its own training rows."""
DISCREPANCY = "discrepancy"
"""The mean over layers of what the site computed."""
_KEPT = 0.95  # share of home rows that the threshold of FPR95 lets in


@dataclass(frozen=True, slots=True)
class Separation:
    """Home rows against foreign ones.

    Args:
        auroc: chance that a home row scores above a foreign one; ties count half.
        fpr95: share of foreign rows that pass where 95 % of the home rows do.
    """

    auroc: float
    fpr95: float
    num_home: int
    num_foreign: int


BySource = dict[str, dict[Kind, Separation]]
"""Evidence, id score or fused id -> kind -> figures; a kind without rows is left out."""
_Fitted = dict[str, tuple[Evidence, float, float]]
_Told = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Scorecard:
    """Figures by expert, and their mean over the experts that have them.

    Args:
        average: evidence -> kind -> figure (``auroc``, ``fpr95``) -> mean.
        refused: expert -> code of why nothing could be fitted on its rows.
    """

    split: Split
    experts: dict[str, BySource]
    average: dict[str, dict[Kind, dict[str, float]]]
    refused: dict[str, str]


def scorecard(
    joined: JoinedRows,
    homes: Mapping[str, Collection[str]],
    fusions: Mapping[str, FusionModel],
    *,
    split: Split = "test",
) -> Scorecard:
    """Measure all evidence, id scores and fused id scalars on the same held-out rows.

    The id scalar, the fused id scores and the nearest evidence are asked with one expert after the
    other taken out, as if its scanner had never been seen: its datasets are then foreign and those
    of the others home. They are taken out of what the id scalar knows, and id scores of ``ridge``
    and ``blend`` are fitted again without them; a trained gate has seen them, so its figures are
    too good. The same holds for an expert's own id score, which was fitted with validation rows of
    all datasets.

    Args:
        joined: rows of all datasets, experts in the order of the fusions' blocks.
        homes: expert -> names of the datasets that it was trained on.
        fusions: variant -> trained fusion.
        split: which rows count.
    """
    scored = [select_rows(rows, is_scored(rows, split)) for rows in joined.datasets]
    fitted: list[_Fitted] = []
    refused: dict[str, str] = {}
    for place, block in enumerate(joined.blocks):
        try:
            fitted.append(_fit(joined, place, homes.get(block.expert, ())))
        except EchoFedError as error:  # of too few patients, say; the fusion is none the worse
            refused[block.expert] = error.code.name
            fitted.append({})
    kept = fit_novelty(joined, homes)
    told = [
        [_tell(rows, place, fitted[place], fusions) for rows in scored]
        for place in range(len(joined.blocks))
    ]
    experts: dict[str, BySource] = {}
    for place, block in enumerate(joined.blocks):
        marks = _mark(scored, joined, [block], homes)
        without = [other for other in joined.blocks if other is not block]
        others = _mark(scored, joined, without, homes)
        experts[block.expert] = {
            **_separate(told[place], marks),
            **_separate(_tell_novelty(joined, place, homes, scored, kept), others),
            **_separate(_tell_without(joined, place, homes, fusions, scored, told), others),
        }
    return Scorecard(split, experts, _average(experts), refused)


def separation(home_N: NDArray[np.float64], foreign_N: NDArray[np.float64]) -> Separation | None:
    """Compare the values of home rows with those of foreign ones; None if either is missing."""
    if not (len(home_N) and len(foreign_N)):
        return None
    is_home_N = np.repeat([True, False], [len(home_N), len(foreign_N)])
    threshold = np.quantile(home_N, 1.0 - _KEPT, method="lower")
    return Separation(
        auroc=float(roc_auc_score(is_home_N, np.concatenate([home_N, foreign_N]))),
        fpr95=float((foreign_N >= threshold).mean()),
        num_home=len(home_N),
        num_foreign=len(foreign_N),
    )


def fused_id_scalar(fusion: FusionModel, id_scores_NE: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much at home a fusion is in each frame (N): 1 - p(none of the experts is).

    Id scores of ``ridge`` and ``blend`` are independent chances that an expert's own answer is
    right, so that p(none) is the product of 1 - A_e. Those of a softmax gate sum to one and have
    no "none": the largest is taken, which says how decided the gate is, not whether any expert is
    at home.
    """
    if isinstance(fusion, UnionHead | Blend):
        some_N: NDArray[np.float64] = 1.0 - np.prod(1.0 - id_scores_NE, axis=1)
        return some_N
    largest_N: NDArray[np.float64] = id_scores_NE.max(axis=1)
    return largest_N


def _fit(joined: JoinedRows, place: int, home: Collection[str]) -> _Fitted:
    """All evidence of one expert, with its mean and deviation over its own training rows."""
    own = own_training_rows(joined, place, home)
    fitted: _Fitted = {}
    for name in EVIDENCE.names():
        evidence = EVIDENCE[name].fit(own)
        value_N = evidence.score(own.features_ND, own.logits_NC)
        fitted[name] = evidence, float(value_N.mean()), float(value_N.std()) or 1.0
    return fitted


def _tell(
    rows: DatasetRows, place: int, fitted: _Fitted, fusions: Mapping[str, FusionModel]
) -> _Told:
    """What every evidence of one expert says of a dataset; nothing where it did not see it."""
    if not rows.available[place]:
        return {}
    told = {DISCREPANCY: rows.evidence[place].mean(axis=1, dtype=np.float64)}
    for name, (evidence, mean, sd) in fitted.items():
        told[name] = (evidence.score(rows.features[place], rows.logits[place]) - mean) / sd
    for variant, fusion in fusions.items():
        if fusion.has_id_scores:
            told[ID_SCORE + variant] = fuse_rows(fusion, rows).id_scores_NE[:, place]
    return told


def _tell_novelty(
    joined: JoinedRows,
    place: int,
    homes: Mapping[str, Collection[str]],
    scored: Sequence[DatasetRows],
    kept: Novelty | None,
) -> list[_Told]:
    """By dataset, how much at home the others are, knowing neither one expert nor its datasets."""
    others = [block.expert for block in joined.blocks if block is not joined.blocks[place]]
    home = {name for expert in others for name in homes.get(expert, ())}
    foreign = [rows.name for rows in joined.datasets if rows.name not in home]
    left = [_without(rows, place) for rows in scored]
    scorers = {
        available: kept.scorer(available, without=foreign) if kept is not None else None
        for available in {rows.available for rows in left}
    }
    return [
        {}
        if (scorer := scorers[rows.available]) is None
        else {ID_SCALAR: scorer.score(rows.features, rows.logits, rows.evidence)}
        for rows in left
    ]


def _tell_without(
    joined: JoinedRows,
    place: int,
    homes: Mapping[str, Collection[str]],
    fusions: Mapping[str, FusionModel],
    scored: Sequence[DatasetRows],
    told: Sequence[Sequence[_Told]],
) -> list[_Told]:
    """By dataset, what the fusions say without one expert, and the nearest of the other experts."""
    others = [other for other in range(len(joined.blocks)) if other != place]
    home = {name for other in others for name in homes.get(joined.blocks[other].expert, ())}
    known = [rows for rows in joined.datasets if rows.name in home]
    asked = {
        variant: _refit(fusion, known) if isinstance(fusion, UnionHead | Blend) else fusion
        for variant, fusion in fusions.items()
        if fusion.has_id_scores
    }
    found: list[_Told] = []
    for number, rows in enumerate(scored):
        left = _without(rows, place)
        found.append({})
        if not any(left.available):
            continue
        for variant, fusion in asked.items():
            id_scores_NE = fuse_rows(fusion, left).id_scores_NE
            found[-1][FUSED_ID + variant] = fused_id_scalar(fusion, id_scores_NE)
        for name in EVIDENCE.names():
            values = [told[other][number][name] for other in others if name in told[other][number]]
            if values:
                found[-1][NEAREST + name] = np.max(values, axis=0)
    return found


def _without(rows: DatasetRows, place: int) -> DatasetRows:
    """The rows as if the expert at a place had not seen them."""
    available = list(rows.available)
    available[place] = False
    return replace(rows, available=tuple(available))


def _refit(fusion: UnionHead | Blend, known: Sequence[DatasetRows]) -> UnionHead | Blend:
    """The same head, its id scores fitted on the validation rows of the known datasets alone."""
    again = type(fusion)(fusion.blocks)
    copy_shared(fusion, again)
    marked = [(rows, is_scored(rows, "val")) for rows in known]
    fit_id_scores(again, [select_rows(rows, keep_N) for rows, keep_N in marked if keep_N.any()])
    return again.eval()


def _mark(
    scored: Sequence[DatasetRows],
    joined: JoinedRows,
    owners: Sequence[Block],
    homes: Mapping[str, Collection[str]],
) -> list[NDArray[np.str_]]:
    """By dataset, ``home`` or the kind of foreign row to these experts (N).

    Empty where a label leaves views possible that they own and others too.
    """
    ontology = load_ontology()
    views = union_views(joined.blocks)
    owned = {view for block in owners for view in block.views}
    owned_V = np.array([view in owned for view in views])
    home = {name for block in owners for name in homes.get(block.expert, ())}
    marks = []
    for rows in scored:
        named_KV, possible_KV = named_views(rows, views), possible_views(rows, views)
        mark_K = []
        for nodes, named_V, possible_V in zip(rows.label_views, named_KV, possible_KV, strict=True):
            wider = any(ontology.is_at_or_below(node, view) for node in nodes for view in owned)
            told_V = named_V if rows.name in home and named_V.any() else possible_V
            if told_V.any() and (told_V <= owned_V).all():
                mark_K.append(HOME if rows.name in home else "new scanner")
            else:
                mark_K.append("" if (possible_V & owned_V).any() or wider else "unseen view")
        marks.append(np.array(mark_K, dtype=np.str_)[rows.label_N])
    return marks


def _separate(told: Sequence[_Told], marks: Sequence[NDArray[np.str_]]) -> BySource:
    """Put the datasets below each other and compare home rows with either kind."""
    found: BySource = {}
    for source in dict.fromkeys(source for by_source in told for source in by_source):
        held = [place for place, by_source in enumerate(told) if source in by_source]
        value_N = np.concatenate([told[place][source] for place in held])
        mark_N = np.concatenate([marks[place] for place in held])
        by_kind = {
            kind: separation(value_N[mark_N == HOME], value_N[mark_N == kind]) for kind in KINDS
        }
        found[source] = {kind: one for kind, one in by_kind.items() if one is not None}
    return found


def _average(experts: Mapping[str, BySource]) -> dict[str, dict[Kind, dict[str, float]]]:
    """The mean over experts; every expert weighs the same."""
    sources = dict.fromkeys(source for found in experts.values() for source in found)
    average: dict[str, dict[Kind, dict[str, float]]] = {}
    for source in sources:
        average[source] = {}
        for kind in KINDS:
            held = [one[source][kind] for one in experts.values() if kind in one.get(source, {})]
            if held:
                average[source][kind] = {
                    "auroc": float(np.mean([one.auroc for one in held])),
                    "fpr95": float(np.mean([one.fpr95 for one in held])),
                }
    return average
