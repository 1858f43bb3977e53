"""What the bank gives to learn from: the frames of datasets as seen by several experts."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from shared.echo.expert import Block
from shared.echo.origin import Origin
from shared.echo.statistics import StatisticsExport


@dataclass(frozen=True, slots=True, eq=False)
class DatasetRows:
    """The frames of one dataset as seen by several experts.

    Args:
        name: ``site/dataset``.
        label_views: views of each label; an empty tuple is no supervision.
        exports: ids of the exports that were joined.
        available: whether each expert saw this dataset; the arrays of one that did not are zero.
        num_dropped: rows left out since not every available expert has them.
        clip_N: clip numbers, of this dataset only.
        features: float32 (N, D) by expert; ``logits`` (N, C) and ``evidence`` (N, L) likewise.
        policy_version: the lowest of the exports, of the site's policy that let them go.
        annotated, never_images, folds: the site's other views, as in ``ExportCard``.
        minimum_patients: the highest of the exports.
    """

    name: str
    dataset_hash: str
    origin: Origin
    labels: tuple[str, ...]
    label_views: tuple[tuple[str, ...], ...]
    exports: tuple[str, ...]
    available: tuple[bool, ...]
    num_dropped: int
    label_N: NDArray[np.int64]
    split_N: NDArray[np.int64]
    pass_N: NDArray[np.int64]
    clip_N: NDArray[np.int64]
    patient_N: NDArray[np.int64]
    features: tuple[NDArray[np.float32], ...]
    logits: tuple[NDArray[np.float32], ...]
    evidence: tuple[NDArray[np.float32], ...]
    policy_version: int = 0
    annotated: tuple[str, ...] = ()
    never_images: tuple[str, ...] = ()
    folds: Mapping[str, str] = field(default_factory=dict)
    minimum_patients: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class JoinedRows:
    """Rows of several datasets, ready to train a fusion on.

    Args:
        blocks: the experts, in the order asked for.
        missing: dataset name -> experts whose export of it the bank lacks.
        statistics: datasets of which there are moments in place of rows.
    """

    blocks: tuple[Block, ...]
    datasets: tuple[DatasetRows, ...]
    missing: Mapping[str, tuple[str, ...]]
    statistics: tuple[StatisticsExport, ...] = ()


def select_rows(rows: DatasetRows, keep_N: NDArray[np.bool_]) -> DatasetRows:
    """Only the rows that are marked."""
    return replace(
        rows,
        label_N=rows.label_N[keep_N],
        split_N=rows.split_N[keep_N],
        pass_N=rows.pass_N[keep_N],
        clip_N=rows.clip_N[keep_N],
        patient_N=rows.patient_N[keep_N],
        features=tuple(array_ND[keep_N] for array_ND in rows.features),
        logits=tuple(array_NC[keep_N] for array_NC in rows.logits),
        evidence=tuple(array_NL[keep_N] for array_NL in rows.evidence),
    )
