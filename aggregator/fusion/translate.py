"""The translator: what a missing expert would have seen, told by what the others saw.

The conditional mean of a Gaussian over all experts' features, logits and evidence, in closed form:
for every set of missing experts it is a ridge regression on the others, fitted on the rows that
all experts saw. It is the translation that spec 5.6 asks for; FedProK (arXiv 2405.02685) is akin.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from aggregator.fusion.evaluate import is_scored
from aggregator.joined_rows import DatasetRows, JoinedRows, select_rows
from shared.echo.expert import Block
from shared.errors import Code, EchoFedError

log = logging.getLogger(__name__)
_RIDGE = 1e-3  # of each column's variance; 1e-5 to 1e-2 score alike on phantom banks
_ROUNDING = 1e-10  # a column varies if its variance is above this share of its mean square


@dataclass(frozen=True, slots=True, eq=False)
class Translator:
    """A Gaussian over the columns of all experts: of each in turn features, logits, evidence.

    Args:
        mean_M: of each column.
        scale_M: deviation of each column, 0 for constant ones.
        correlation_MM: between columns, zero for constant ones.
    """

    blocks: tuple[Block, ...]
    mean_M: NDArray[np.float64]
    scale_M: NDArray[np.float64]
    correlation_MM: NDArray[np.float64]

    def impute(self, rows: DatasetRows) -> DatasetRows:
        """The rows with the blocks of missing experts filled in; those that are there stay.

        Raises:
            EchoFedError: FEATURES_INVALID where no expert saw the rows.
        """
        if all(rows.available):
            return rows
        if not any(rows.available):
            raise EchoFedError(
                Code.FEATURES_INVALID,
                f"no expert saw the rows of dataset {rows.name}",
                "leave the dataset out",
            )
        is_seen_M = np.repeat(rows.available, _widths(self.blocks))
        seen_P, missing_Q = np.flatnonzero(is_seen_M), np.flatnonzero(~is_seen_M)
        gram_PP = self.correlation_MM[np.ix_(seen_P, seen_P)]
        gram_PP[np.diag_indices_from(gram_PP)] += _RIDGE
        weight_PQ = np.linalg.solve(gram_PP, self.correlation_MM[np.ix_(seen_P, missing_Q)])
        columns_NM = _columns(rows)
        inverse_P = _inverse(self.scale_M[seen_P])
        unit_NP = (columns_NM[:, seen_P] - self.mean_M[seen_P]) * inverse_P
        columns_NM[:, missing_Q] = (
            self.mean_M[missing_Q] + (unit_NP @ weight_PQ) * self.scale_M[missing_Q]
        )
        return _with_columns(rows, columns_NM, self.blocks)


def fit_translator(joined: JoinedRows) -> Translator:
    """Fit on the labelled plain training rows that all experts saw; datasets weigh equally.

    Raises:
        EchoFedError: FRAMES_MISSING where there are none, FEATURES_NOT_FINITE.
    """
    parts = [
        _columns(select_rows(rows, is_scored(rows, "train")))
        for rows in joined.datasets
        if all(rows.available)
    ]
    parts = [columns_NM for columns_NM in parts if len(columns_NM)]
    if not parts:
        raise EchoFedError(
            Code.FRAMES_MISSING,
            "no dataset has training rows that all experts saw",
            "run increment while a site that can run all experts is reachable",
        )
    if not all(np.isfinite(columns_NM).all() for columns_NM in parts):
        raise EchoFedError(
            Code.FEATURES_NOT_FINITE,
            "rows for the translator have values that are not finite",
            "the site must extract again",
        )
    mean_M = np.mean([columns_NM.mean(axis=0) for columns_NM in parts], axis=0)
    width = len(mean_M)
    covariance_MM, square_M = np.zeros((width, width)), np.zeros(width)
    for columns_NM in parts:
        centred_NM = columns_NM - mean_M
        covariance_MM += centred_NM.T @ centred_NM / (len(columns_NM) * len(parts))
        square_M += (columns_NM**2).mean(axis=0) / len(parts)
    variance_M = np.diagonal(covariance_MM)
    varies_M = variance_M > _ROUNDING * square_M
    scale_M = np.where(varies_M, np.sqrt(np.where(varies_M, variance_M, 1.0)), 0.0)
    inverse_M = _inverse(scale_M)
    correlation_MM = covariance_MM * np.outer(inverse_M, inverse_M)
    return Translator(joined.blocks, mean_M, scale_M, correlation_MM)


def with_translations(joined: JoinedRows) -> JoinedRows:
    """Beside every dataset that an expert did not see, the same dataset with that block filled in.

    Else the presence of the expert would tell the sites that had it. Where no dataset was seen by
    all experts, nothing is added.
    """
    lacking = [rows for rows in joined.datasets if not all(rows.available)]
    if not lacking or len(lacking) == len(joined.datasets):
        return joined
    try:
        translator = fit_translator(joined)
    except EchoFedError as error:
        if error.code is not Code.FRAMES_MISSING:
            raise
        log.warning("missing blocks stay empty: %s", error)
        return joined
    filled = tuple(translator.impute(rows) for rows in lacking)
    return replace(joined, datasets=(*joined.datasets, *filled))


def without_experts(rows: DatasetRows, missing: Sequence[int]) -> DatasetRows:
    """The rows as if the experts at these places had not seen them."""

    def blank(arrays: Sequence[NDArray[np.float32]]) -> tuple[NDArray[np.float32], ...]:
        return tuple(
            np.zeros_like(array) if place in missing else array
            for place, array in enumerate(arrays)
        )

    return replace(
        rows,
        available=tuple(
            is_there and place not in missing for place, is_there in enumerate(rows.available)
        ),
        features=blank(rows.features),
        logits=blank(rows.logits),
        evidence=blank(rows.evidence),
    )


def _widths(blocks: Sequence[Block]) -> list[int]:
    return [block.feature_width + len(block.views) + block.num_evidence for block in blocks]


def _columns(rows: DatasetRows) -> NDArray[np.float64]:
    groups = zip(rows.features, rows.logits, rows.evidence, strict=True)
    return np.hstack([array for group in groups for array in group]).astype(np.float64)


def _with_columns(
    rows: DatasetRows, columns_NM: NDArray[np.float64], blocks: Sequence[Block]
) -> DatasetRows:
    """The rows with all experts' arrays taken from the columns; what was there stays the same."""
    widths = [
        width
        for block in blocks
        for width in (block.feature_width, len(block.views), block.num_evidence)
    ]
    arrays = np.split(columns_NM.astype(np.float32), np.cumsum(widths)[:-1], axis=1)
    return replace(
        rows,
        available=(True,) * len(blocks),
        features=tuple(arrays[0::3]),
        logits=tuple(arrays[1::3]),
        evidence=tuple(arrays[2::3]),
    )


def _inverse(scale_M: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(scale_M > 0, 1.0 / np.where(scale_M > 0, scale_M, 1.0), 0.0)
