"""Condense what experts saw in a dataset into moments of its labels, where rows may not leave."""

from collections.abc import Sequence

import numpy as np

from shared.echo.expert import Block
from shared.echo.features import FeatureExport
from shared.echo.label_sets import telling_labels
from shared.echo.statistics import (
    SHRINKAGE,
    StatisticsCard,
    StatisticsExport,
    find_moments,
    moment_columns,
    shrink,
)
from shared.errors import Code, EchoFedError


def condense(
    exports: Sequence[FeatureExport], *, minimum: int, created: str, shrinkage: float = SHRINKAGE
) -> StatisticsExport:
    """Moments of the labelled plain rows of several exports of one dataset.

    Args:
        exports: one per expert, of the same content and the same frames.
        minimum: patients that a label must have in a part to be told of.
        created: time for the card.
        shrinkage: of the correlations within labels.

    Raises:
        EchoFedError: FEATURES_INVALID where the exports are not of the same frames.
    """
    first = exports[0]
    order, *others = [np.lexsort((export.pass_N, export.frame_N)) for export in exports]
    same = [order, *others]
    for export, order_N in zip(exports, same, strict=True):
        for name in ("frame_N", "pass_N"):
            if not np.array_equal(getattr(export, name)[order_N], getattr(first, name)[order]):
                raise EchoFedError(
                    Code.FEATURES_INVALID,
                    f"exports {first.card.id} and {export.card.id} are not of the same frames",
                    "extract again; the dataset may have changed meanwhile",
                )
    card = first.card
    kept_N = (first.pass_N[order] == 0) & telling_labels(card)[first.label_N[order]]
    kept = [order_N[kept_N] for order_N in same]
    blocks = tuple(
        Block(e.card.expert, e.card.views, e.card.feature_width, e.card.num_evidence)
        for e in exports
    )
    rows = list(zip(exports, kept, strict=True))
    columns_NM = moment_columns(
        blocks,
        [export.features_ND[places] for export, places in rows],
        [export.logits_NC[places] for export, places in rows],
        [export.discrepancy_NL[places] for export, places in rows],
    )
    moments = find_moments(
        columns_NM,
        first.label_N[kept[0]],
        first.split_N[kept[0]],
        first.patient_N[kept[0]],
        num_labels=len(card.labels),
        minimum=minimum,
    )
    hashes = "-".join(export.card.expert_sha256[:8] for export in exports)
    return StatisticsExport(
        StatisticsCard(
            id=f"{card.site}-{card.dataset}-{card.dataset_hash[:8]}-{hashes}",
            site=card.site,
            dataset=card.dataset,
            dataset_hash=card.dataset_hash,
            origin=card.origin,
            blocks=blocks,
            expert_sha256=tuple(export.card.expert_sha256 for export in exports),
            labels=card.labels,
            label_views=card.label_views,
            shrinkage=shrinkage,
            policy_version=card.policy_version,
            created=created,
            annotated=card.annotated,
            never_images=card.never_images,
            folds=dict(card.folds),
        ),
        shrink(moments, shrinkage),
    )
