"""Sums over the rows of a dataset: what a closed form needs, and no row of it.

They add up over datasets in any order, and a dataset that is left out was never there.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from aggregator.fusion.evaluate import is_scored
from aggregator.joined_rows import DatasetRows, JoinedRows, select_rows
from shared.echo.expert import Block
from shared.echo.label_sets import Words, named_views, possible_views
from shared.echo.manifest import Split
from shared.echo.ontology import OTHER
from shared.echo.statistics import PARTS, StatisticsExport, projected_width, projection
from shared.errors import Code, EchoFedError
from shared.models.fused import union_views
from shared.seeding import numpy_generator

_CHUNK = 4096  # rows at a time, so that float64 copies stay small
_ROUNDING = 1e-10  # a column varies if its scatter is above this share of its sum of squares


FIT: tuple[Split, ...] = ("train",)
"""The splits that are fitted on as long as something has still to be chosen."""
REFIT: tuple[Split, ...] = ("train", "val")
"""Those that are fitted on once everything is chosen."""


@dataclass(frozen=True, slots=True)
class FeatureSpace:
    """What the sums are taken of: the experts' features side by side, or random features of them.

    Args:
        blocks: experts in the order of the columns.
        num_random: random features per expert (ReLU of a Gaussian projection drawn from the
            expert's id, so that other experts' columns stay as they are); 0 takes the features.
        seed: of the projections.
        is_projected: take the features' fixed projections, of which statistics tell.
    """

    blocks: tuple[Block, ...]
    num_random: int = 0
    seed: int = 0
    is_projected: bool = False

    @property
    def views(self) -> tuple[str, ...]:
        """The union views."""
        return union_views(self.blocks)

    def spread(self, by_expert: Sequence[bool]) -> NDArray[np.float64]:
        """One value per expert, repeated over its columns (D)."""
        return np.repeat(np.array(by_expert, dtype=np.float64), self.widths)

    @property
    def widths(self) -> tuple[int, ...]:
        """Columns of each expert."""
        if self.is_projected:
            return tuple(projected_width(block) for block in self.blocks)
        return tuple(self.num_random or block.feature_width for block in self.blocks)

    def columns(self, features: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
        """Rows (N, D) of the space from the features of each expert, in float64."""
        if self.is_projected:
            pairs = zip(self.blocks, features, strict=True)
            return np.hstack([rows_ND.astype(np.float64) @ projection(b) for b, rows_ND in pairs])
        if not self.num_random:
            return np.hstack([rows_ND.astype(np.float64) for rows_ND in features])
        parts = []
        for block, rows_ND in zip(self.blocks, features, strict=True):
            generator = numpy_generator(self.seed, "random features", block.expert)
            drawn = generator.normal(size=(block.feature_width, self.num_random))
            drawn /= np.sqrt(block.feature_width)
            parts.append(np.maximum(rows_ND.astype(np.float64) @ drawn, 0.0))
        return np.hstack(parts)


@dataclass(frozen=True, slots=True, eq=False)
class RowSums:
    """All that a closed form takes from one dataset; no larger for more rows.

    Args:
        available: which experts saw the dataset; the columns of the others are zero.
        num_V: rows of each union view; a label of several views counts in equal shares.
        sum_VD: sums of the columns in the same shares.
        gram_DD: sums of the columns' products over all rows.
    """

    dataset: str
    available: tuple[bool, ...]
    num_V: NDArray[np.float64]
    sum_VD: NDArray[np.float64]
    gram_DD: NDArray[np.float64]


def sum_rows(rows: DatasetRows, space: FeatureSpace, *, splits: Sequence[Split] = FIT) -> RowSums:
    """Sum the labelled plain rows of a dataset whose label covers a union view.

    Args:
        rows: of one dataset.
        space: what is summed.
        splits: whose rows; training rows by default.
    """
    share_KV = label_shares(rows, space.views)
    kept_N = np.any([is_scored(rows, split) for split in splits], axis=0)
    kept_N &= (share_KV.sum(axis=1) > 0)[rows.label_N]
    kept, seen_D = select_rows(rows, kept_N), space.spread(rows.available)
    sum_KD = np.zeros((len(rows.labels), len(seen_D)))
    gram_DD = np.zeros((len(seen_D), len(seen_D)))
    for part in chunks(len(kept.label_N)):
        columns_ND = space.columns([array[part] for array in kept.features]) * seen_D
        if not np.isfinite(columns_ND).all():
            raise EchoFedError(
                Code.FEATURES_NOT_FINITE,
                f"features of dataset {rows.name} have values that are not finite",
                "the site must extract again",
            )
        gram_DD += columns_ND.T @ columns_ND
        np.add.at(sum_KD, kept.label_N[part], columns_ND)
    num_K = np.bincount(kept.label_N, minlength=len(rows.labels)).astype(np.float64)
    return RowSums(rows.name, rows.available, num_K @ share_KV, share_KV.T @ sum_KD, gram_DD)


def space_of(joined: JoinedRows) -> FeatureSpace:
    """All features, or their projections where any dataset sent statistics only."""
    return FeatureSpace(joined.blocks, is_projected=bool(joined.statistics))


def sum_datasets(
    joined: JoinedRows, space: FeatureSpace, *, splits: Sequence[Split] = FIT
) -> list[RowSums]:
    """The sums of every dataset, by its rows or by its statistics."""
    return [
        *(sum_rows(rows, space, splits=splits) for rows in joined.datasets),
        *(sum_statistics(export, space, splits=splits) for export in joined.statistics),
    ]


def sum_statistics(
    export: StatisticsExport, space: FeatureSpace, *, splits: Sequence[Split] = FIT
) -> RowSums:
    """The sums that the rows behind statistics have, up to the shrinkage.

    Args:
        export: statistics of a dataset.
        space: of projected features.
        splits: whose rows; training rows by default.
    """
    assert space.is_projected
    parts = [_sum_part(export, space, PARTS.index(split)) for split in splits]
    return replace(
        parts[0],
        num_V=np.sum([part.num_V for part in parts], axis=0),
        sum_VD=np.sum([part.sum_VD for part in parts], axis=0),
        gram_DD=np.sum([part.gram_DD for part in parts], axis=0),
    )


def _sum_part(export: StatisticsExport, space: FeatureSpace, part: int) -> RowSums:
    card, moments = export.card, export.moments
    num_K = moments.num_frames_SK[part].astype(np.float64)
    widths = [projected_width(block) for block in card.blocks]
    source, target = [], []
    for block, start, width in zip(card.blocks, np.cumsum([0, *widths]), widths, strict=False):
        if block in space.blocks:
            first = sum(space.widths[: space.blocks.index(block)])
            source.append(np.arange(start, start + width))
            target.append(np.arange(first, first + width))
    source_P, target_P = np.concatenate(source), np.concatenate(target)
    mean_KP = moments.mean_SKM[part][:, source_P]
    gram_PP = num_K.sum() * moments.covariance_SMM[part][np.ix_(source_P, source_P)]
    gram_PP += (mean_KP * num_K[:, None]).T @ mean_KP
    gram_DD = np.zeros((sum(space.widths), sum(space.widths)))
    gram_DD[np.ix_(target_P, target_P)] = gram_PP
    sum_KD = np.zeros((len(num_K), len(gram_DD)))
    sum_KD[:, target_P] = mean_KP * num_K[:, None]
    share_KV = label_shares(card, space.views)
    known = {block.expert for block in card.blocks}
    return RowSums(
        dataset=f"{card.site}/{card.dataset}",
        available=tuple(block.expert in known for block in space.blocks),
        num_V=num_K @ share_KV,
        sum_VD=share_KV.T @ sum_KD,
        gram_DD=gram_DD,
    )


@dataclass(frozen=True, slots=True, eq=False)
class PooledSums:
    """Weighted sums over all datasets.

    Args:
        mean_D: of each column over the datasets that its expert saw.
        num_V: weight of each view.
        moment_DV: sums of the columns about their mean, by view.
        scatter_DD: sums of products about the mean.
        varies_D: columns that vary beyond rounding.
    """

    mean_D: NDArray[np.float64]
    num_V: NDArray[np.float64]
    moment_DV: NDArray[np.float64]
    scatter_DD: NDArray[np.float64]
    varies_D: NDArray[np.bool_]


def pool(sums: Sequence[RowSums], space: FeatureSpace, *, balance: bool) -> PooledSums:
    """Add what was summed in each dataset.

    Args:
        sums: one per dataset, in any order; to leave one out is never to have had it.
        space: what the sums were taken of.
        balance: give every dataset the same total weight.

    Raises:
        EchoFedError: FRAMES_MISSING where fewer than two views have rows, FEATURES_INVALID where
            no column varies.
    """
    held = [one for one in sums if one.num_V.any()]
    if np.count_nonzero(sum((one.num_V for one in held), np.zeros(1))) < 2:
        raise too_few("fewer than two views have labelled training rows")
    shares = Counter(one.dataset for one in held)  # the same rows may come in more than one form
    weights = [1.0 / shares[one.dataset] / (one.num_V.sum() if balance else 1.0) for one in held]
    parts = [
        (weight, space.spread(one.available), one)
        for weight, one in zip(weights, held, strict=True)
    ]
    num_D = np.sum([weight * one.num_V.sum() * seen_D for weight, seen_D, one in parts], axis=0)
    sum_D = np.sum([weight * one.sum_VD.sum(axis=0) for weight, _, one in parts], axis=0)
    square_D = np.sum([weight * np.diagonal(one.gram_DD) for weight, _, one in parts], axis=0)
    mean_D = sum_D / np.where(num_D > 0, num_D, 1.0)
    scatter_DD = np.zeros_like(held[0].gram_DD)
    moment_DV = np.zeros_like(held[0].sum_VD.T)
    for weight, seen_D, one in parts:
        about_D = mean_D * seen_D
        cross_DD = np.outer(one.sum_VD.sum(axis=0), about_D)
        shift_DD = one.num_V.sum() * np.outer(about_D, about_D)
        scatter_DD += weight * (one.gram_DD - cross_DD - cross_DD.T + shift_DD)
        moment_DV += weight * (one.sum_VD - np.outer(one.num_V, about_D)).T
    varies_D = np.diagonal(scatter_DD) > _ROUNDING * square_D
    if not varies_D.any():
        raise EchoFedError(
            Code.FEATURES_INVALID,
            "the features of all experts are constant over the training rows",
            "retrain the experts; they tell no frame from another",
        )
    return PooledSums(
        mean_D=mean_D,
        num_V=np.sum([weight * one.num_V for weight, _, one in parts], axis=0),
        moment_DV=moment_DV,
        scatter_DD=scatter_DD,
        varies_D=varies_D,
    )


def label_shares(words: Words, views: Sequence[str]) -> NDArray[np.float64]:
    """What share of a row of each label goes to each union view (K, V).

    A label is taken for what it names, without what its site folds into it: equal shares would
    give that half of the rows. One that names ``other`` counts where it leaves a single view:
    shares of all that it leaves would stand for rows that nobody saw.
    """
    share_KV = named_views(words, views).astype(np.float64)
    names_other_K = np.array([OTHER in nodes for nodes in words.label_views])
    possible_KV = possible_views(words, views)
    is_sole_K = possible_KV.sum(axis=1) == 1
    share_KV[names_other_K] = (possible_KV & is_sole_K[:, None])[names_other_K]
    share_KV /= np.maximum(share_KV.sum(axis=1, keepdims=True), 1.0)
    return share_KV


def chunks(num: int) -> Iterator[slice]:
    return (slice(start, start + _CHUNK) for start in range(0, num, _CHUNK))


def too_few(fault: str) -> EchoFedError:
    return EchoFedError(
        Code.FRAMES_MISSING, fault, "ingest labelled clips at a site, then run increment again"
    )
