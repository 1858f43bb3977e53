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

from aggregator.feature_bank import DatasetRows, JoinedRows, select_rows
from aggregator.fusion.evaluate import fuse_rows, is_scored
from aggregator.fusion.fit import fit_id_scores
from aggregator.fusion.rows import own_training_rows
from shared.echo.expert import Block
from shared.echo.manifest import Split
from shared.echo.ontology import load_ontology
from shared.errors import EchoFedError
from shared.evidence import EVIDENCE
from shared.evidence.rows import Evidence
from shared.models.fused import union_views
from shared.models.fusion_weights import FusionModel, copy_shared
from shared.models.union_head import UnionHead

Kind = Literal["new scanner", "unseen view"]
HOME = "home"
KINDS: tuple[Kind, ...] = ("new scanner", "unseen view")
ID_SCORE = "id score "
"""An expert's own id score is listed as this and the variant's name."""
FUSED_ID = "fused id "
"""The fused id scalar is listed as this and the variant's name."""
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

    The fused scalar is asked with one expert after the other taken out of the fusion, as if its
    scanner had never been seen: its datasets are then foreign and those of the others home. Id
    scores of ``ridge`` are fitted again without those datasets; a trained gate has seen them, so
    its figures are too good.

    Args:
        joined: rows of all datasets, experts in the order of the fusions' blocks.
        homes: expert -> names of the datasets that it was trained on.
        fusions: variant -> trained fusion.
        split: which rows count.
    """
    scored = [select_rows(rows, is_scored(rows, split)) for rows in joined.datasets]
    experts: dict[str, BySource] = {}
    refused: dict[str, str] = {}
    for place, block in enumerate(joined.blocks):
        home = frozenset(homes.get(block.expert, ()))
        fitted: dict[str, Evidence] = {}
        try:
            own = own_training_rows(joined, place, home)
            fitted = {name: EVIDENCE[name].fit(own) for name in EVIDENCE.names()}
        except EchoFedError as error:  # of too few patients, say; the fusion is none the worse
            refused[block.expert] = error.code.name
        seen = [rows for rows in scored if rows.available[place]]
        told = [_tell(rows, place, fitted, fusions) for rows in seen]
        marks = [_mark(rows, joined, [block], rows.name in home) for rows in seen]
        experts[block.expert] = _separate(told, marks)
        experts[block.expert] |= _leave_out(joined, place, homes, fusions, scored)
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

    Id scores of ``ridge`` are independent chances that an expert's own answer is right, so that
    p(none) is the product of 1 - A_e. Those of a softmax gate sum to one and have no "none": the
    largest is taken, which says how decided the gate is, not whether any expert is at home.
    """
    if isinstance(fusion, UnionHead):
        some_N: NDArray[np.float64] = 1.0 - np.prod(1.0 - id_scores_NE, axis=1)
        return some_N
    largest_N: NDArray[np.float64] = id_scores_NE.max(axis=1)
    return largest_N


def _tell(
    rows: DatasetRows,
    place: int,
    fitted: Mapping[str, Evidence],
    fusions: Mapping[str, FusionModel],
) -> dict[str, NDArray[np.float64]]:
    """What every evidence of one expert says of the rows of a dataset."""
    told = {"discrepancy": rows.evidence[place].mean(axis=1, dtype=np.float64)}
    for name, evidence in fitted.items():
        told[name] = evidence.score(rows.features[place], rows.logits[place])
    for variant, fusion in fusions.items():
        if fusion.has_id_scores:
            told[ID_SCORE + variant] = fuse_rows(fusion, rows).id_scores_NE[:, place]
    return told


def _leave_out(
    joined: JoinedRows,
    place: int,
    homes: Mapping[str, Collection[str]],
    fusions: Mapping[str, FusionModel],
    scored: Sequence[DatasetRows],
) -> BySource:
    """The fused scalars of the fusions without one expert."""
    others = [block for block in joined.blocks if block is not joined.blocks[place]]
    home = {name for block in others for name in homes.get(block.expert, ())}
    known = replace(joined, datasets=tuple(r for r in joined.datasets if r.name in home))
    without = [_without(rows, place) for rows in scored]
    seen = [rows for rows in without if any(rows.available)]
    if not (others and known.datasets):
        return {}
    told: list[dict[str, NDArray[np.float64]]] = [{} for _ in seen]
    for variant, fusion in fusions.items():
        if not fusion.has_id_scores:
            continue
        asked = _refit(fusion, known) if isinstance(fusion, UnionHead) else fusion
        for rows, by_source in zip(seen, told, strict=True):
            id_scores_NE = fuse_rows(asked, rows).id_scores_NE
            by_source[FUSED_ID + variant] = fused_id_scalar(fusion, id_scores_NE)
    return _separate(told, [_mark(rows, joined, others, rows.name in home) for rows in seen])


def _without(rows: DatasetRows, place: int) -> DatasetRows:
    """The rows as if the expert at a place had not seen them."""
    available = list(rows.available)
    available[place] = False
    return replace(rows, available=tuple(available))


def _refit(fusion: UnionHead, known: JoinedRows) -> UnionHead:
    """The same head, its id scores fitted on the validation rows of the known datasets alone."""
    again = UnionHead(fusion.blocks)
    copy_shared(fusion, again)
    marked = [(rows, is_scored(rows, "val")) for rows in known.datasets]
    fit_id_scores(again, [select_rows(rows, keep_N) for rows, keep_N in marked if keep_N.any()])
    return again.eval()


def _mark(
    rows: DatasetRows, joined: JoinedRows, owners: Sequence[Block], is_home: bool
) -> NDArray[np.str_]:
    """``home`` or the kind of foreign row (N); empty where a label covers owned and other views."""
    ontology = load_ontology()
    owned = {view for block in owners for view in block.views}
    mark_K = []
    for nodes in rows.label_views:
        covered = ontology.covered(nodes, union_views(joined.blocks))
        wider = any(ontology.is_at_or_below(node, view) for node in nodes for view in owned)
        if covered and covered <= owned:
            mark_K.append(HOME if is_home else "new scanner")
        else:
            mark_K.append("" if covered & owned or wider else "unseen view")
    marks_N: NDArray[np.str_] = np.array(mark_K)[rows.label_N]
    return marks_N


def _separate(
    told: Sequence[Mapping[str, NDArray[np.float64]]], marks: Sequence[NDArray[np.str_]]
) -> BySource:
    """Put the datasets below each other and compare home rows with either kind."""
    if not told:
        return {}
    mark_N = np.concatenate(marks)
    found: BySource = {}
    for source in told[0]:
        value_N = np.concatenate([by_source[source] for by_source in told])
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
