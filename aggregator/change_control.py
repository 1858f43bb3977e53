"""Change control: what a promotion would change at every site, held against the plan.

Both fusions are scored again on the same held-out rows of the bank, so that the figures are paired
and an interval over patients can be told; beside them stand the figures that the sites reported
about both fusions themselves. Nothing here moves an alias.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aggregator.assessment import Assessment, Finding, judge, no_figure, reasons
from aggregator.centre import Centre
from aggregator.change_plan import ChangePlan, expect_known, load_plan
from aggregator.fusion.paired import PairedClips, clip_intervals, pair_clips, patient_intervals
from aggregator.joined_rows import JoinedRows
from aggregator.serving import serving_fusion
from shared.echo.expert import load_fusion
from shared.models.fusion_weights import FusionModel, build_fusion
from shared.settings import hash_settings

_SEED = 0  # of the intervals: the same figures always get the same verdict


def assess(centre: Centre, fusion: str) -> Assessment:
    """Hold a fusion against the one that serves, by the centre's plan.

    Args:
        centre: the open centre.
        fusion: id of the candidate.

    Raises:
        EchoFedError: FUSION_UNKNOWN; CONFIG_INVALID, CONFIG_UNKNOWN_KEY or VIEW_UNKNOWN for a plan
            that is wrong or that no fusion can meet; FRAMES_MISSING where the bank holds nothing
            of the announced datasets.
    """
    plan = load_plan(centre.folder)
    vocabulary = _vocabulary(centre)
    expect_known(plan, _known(centre, vocabulary))
    serving = serving_fusion(centre.ledger) or ""
    judged, withdrawn = _contents(centre, fusion, serving, vocabulary)
    at_sites = tuple(_at_sites(centre, plan, vocabulary, fusion=fusion, serving=serving))
    reported = {one.dataset for one in at_sites}
    in_bank = _in_bank(centre, plan, judged, reported, fusion=fusion, serving=serving)
    findings = [*in_bank, *at_sites, *(no_figure(name, "withdrawn") for name in withdrawn)]
    return Assessment(
        candidate=fusion,
        serving=serving,
        plan=plan,
        plan_hash=hash_settings(plan),
        findings=tuple(findings),
        refused=reasons(plan, findings),
        unreported=tuple(name for name in judged if name not in reported),
    )


def _contents(
    centre: Centre, fusion: str, serving: str, vocabulary: Mapping[str, Any]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Dataset -> hash of the content to judge on, and datasets that were taken back since.

    What the serving fusion knows counts too, or an older fusion could drop a hospital unnoticed.
    """
    row = centre.state.fusion(fusion)
    before = centre.state.fusion(serving).datasets if serving else {}
    contents = {**before, **row.datasets}
    judged = {name: content for name, content in contents.items() if name in vocabulary}
    return judged, tuple(name for name in contents if name not in vocabulary)


def _in_bank(
    centre: Centre,
    plan: ChangePlan,
    contents: Mapping[str, str],
    reported: Collection[str],
    *,
    fusion: str,
    serving: str,
) -> Iterator[Finding]:
    """Figures of rows; a dataset that has none here is judged by its site where that reported."""
    after = _open(centre, fusion)
    before = _open(centre, serving) if serving else None
    joined = _join(centre, contents, [one for one in (before, after) if one is not None])
    rows_of = {rows.name: rows for rows in joined.datasets}
    for name in contents:
        rows = rows_of.get(name)
        clips = None if rows is None else pair_clips(rows, joined, before=before, after=after)
        if clips is None:
            if rows is not None or name not in reported:
                yield no_figure(name, "too few")
            continue
        yield from judge(plan, name, "bank", clips, patient_intervals(clips, seed=_SEED))


def _join(
    centre: Centre, contents: Mapping[str, str], fusions: Sequence[FusionModel]
) -> JoinedRows:
    """Rows of all experts of both fusions that saw any of the contents."""
    seen = centre.bank.experts(contents)
    wanted = dict.fromkeys(block.expert for one in fusions for block in one.blocks)
    return centre.bank.join([expert for expert in wanted if expert in seen], contents)


def _open(centre: Centre, fusion: str) -> FusionModel:
    return build_fusion(*load_fusion(centre.fusion_folder(fusion)))


def _at_sites(
    centre: Centre,
    plan: ChangePlan,
    vocabulary: Mapping[str, Mapping[str, Sequence[str]]],
    *,
    fusion: str,
    serving: str,
) -> Iterator[Finding]:
    """The sites' own figures; those of another content are no comparison."""
    reports = centre.state.evaluations(serving) if serving else ()
    earlier = {(one.site, one.dataset, one.dataset_hash): one.document for one in reports}
    for one in centre.state.evaluations(fusion):
        name = f"{one.site}/{one.dataset}"
        if name not in vocabulary:
            continue
        labels = tuple(one.document["labels"])
        before = earlier.get((one.site, one.dataset, one.dataset_hash))
        is_same = before is not None and tuple(before["labels"]) == labels
        clips = PairedClips(
            labels=labels,
            label_views=tuple(tuple(vocabulary[name].get(label, ())) for label in labels),
            before_PKK=_counts(before) if before is not None and is_same else None,
            after_PKK=_counts(one.document),
        )
        yield from judge(plan, name, "site", clips, clip_intervals(clips, seed=_SEED))


def _counts(document: Mapping[str, Any]) -> NDArray[np.int64]:
    """The reported confusion as that of one patient: sites tell no more."""
    return np.array(document["confusion"], dtype=np.int64)[None]


def _vocabulary(centre: Centre) -> dict[str, dict[str, Any]]:
    """Announced dataset -> label -> views."""
    return {f"{row.site}/{row.dataset}": row.labels for row in centre.state.announcements()}


def _known(
    centre: Centre, vocabulary: Mapping[str, Mapping[str, Sequence[str]]]
) -> dict[str, frozenset[str]]:
    """Sites and datasets -> the views that their labels stand for."""
    known: dict[str, frozenset[str]] = {row.code: frozenset() for row in centre.state.sites()}
    for name, labels in vocabulary.items():
        views = frozenset(view for some in labels.values() for view in some)
        site = name.split("/")[0]
        known |= {name: views, site: known.get(site, frozenset()) | views}
    return known
