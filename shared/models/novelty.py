"""How much at home a whole fusion is in a frame: the distance from every dataset that it knows.

It stands beside the fusion's variant and serves them all. A dataset is a Gaussian per class (a set
of views) under one covariance, in the coordinates of each expert (its features, standardised by
root and length, and its evidence by layer) and in those of all experts' opinions together
(evidence and logits). What is kept are means over at least ``MIN_PATIENTS`` patients and shrunk
covariances; an expert that did not see a frame is left out by dropping its coordinates, which is
what integrating a Gaussian over them gives. In an expert's coordinates distances are taken once
more along the axes on which the known datasets' means lie apart, for there scanners differ.

References: Lee et al. 2018 (arXiv 1807.03888) for the distance, Ren et al. 2021 (arXiv 2106.09022)
for holding it against all rows together. Departures: one covariance per dataset; distances enter
as log(1 + d^2 / D), the exponent of Student's t, so that coordinates weigh alike; the distance from
all rows counts half, so that what is far from everything is still far.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from shared.echo.expert import Block
from shared.errors import Code, EchoFedError
from shared.evidence.gaussian import axes_between, squared_distances, whitening_along

Array = NDArray[np.float64]
Arrays = Sequence[NDArray[np.floating]]
PREFIX = "novelty/"
"""Tensors of a fusion's weights file under this name are its novelty's."""
_BACKGROUND = 0.5  # 1 would give nearly the same value to everything far away
_BETWEEN = 0.5  # 1 tells scanners a little better, and unseen views of a known scanner worse
_EPSILON = 1e-3  # a discrepancy of less than this is none


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """One dataset in one group of coordinates: means of its classes and the spread about them."""

    means_KD: Array
    covariance_DD: Array


@dataclass(frozen=True, slots=True, eq=False)
class Home:
    """What is kept of a dataset.

    Args:
        dataset: ``site/dataset``.
        available: which experts saw it.
        share_K: share of the rows in each class.
        groups: of each expert, then of all opinions together.
    """

    dataset: str
    available: tuple[bool, ...]
    share_K: Array
    groups: tuple[Group, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """A group's coordinates that are at hand, for one home, and the background beside it.

    A whitening (D, R) measures along R axes of them.
    """

    group: int
    kept: NDArray[np.bool_]
    weight: float
    means_KD: Array
    whitening_DR: Array
    background: "_Background"


@dataclass(frozen=True, slots=True, eq=False)
class _Background:
    """All known datasets together in a group's coordinates, each weighing the same.

    Args:
        share: of the group's weight.
        axes_DR: along which distances are taken.
        whitening_DR: of the covariance of all, along them.
    """

    share: float
    axes_DR: Array
    mean_D: Array
    whitening_DR: Array


@dataclass(frozen=True, slots=True, eq=False)
class Scorer:
    """A novelty for frames that certain experts saw."""

    blocks: tuple[Block, ...]
    by_home: tuple[tuple[_Part, ...], ...]

    def score(self, features: Arrays, logits: Arrays, evidence: Arrays) -> Array:
        """How near a frame is to a class of any known dataset (N); higher = more at home."""
        groups = coordinates(self.blocks, features, logits, evidence)
        nearest_HN = [
            np.sum([part.weight * _told(part, groups) for part in parts], axis=0).max(axis=1)
            for parts in self.by_home
        ]
        best_N: Array = np.max(nearest_HN, axis=0)
        return best_N


@dataclass(frozen=True, slots=True, eq=False)
class Novelty:
    """The known datasets of a fusion and the chance that a frame is of one of them.

    Args:
        blocks: the fusion's experts.
        slope: of the log odds that a clip is at home, by its mean score; above 0.
        offset: of the log odds.
    """

    blocks: tuple[Block, ...]
    homes: tuple[Home, ...]
    slope: float = 1.0
    offset: float = 0.0

    def scorer(
        self, available: Sequence[bool] | None = None, *, without: Collection[str] = ()
    ) -> Scorer | None:
        """Get ready to score frames; None where no expert saw both them and a known dataset.

        Args:
            available: which experts saw the frames; all by default.
            without: datasets to be treated as if they had never been known.
        """
        known = [home for home in self.homes if home.dataset not in without]
        seen_E = np.array(available or [True] * len(self.blocks))
        columns = _experts_of_columns(self.blocks)
        backgrounds: dict[tuple[int, bytes], tuple[_Background, ...]] = {}
        by_home = [_parts(home, known, seen_E, columns, backgrounds) for home in known]
        usable = tuple(parts for parts in by_home if parts)
        return Scorer(self.blocks, usable) if usable else None

    def id_scalar(self, score_N: Array) -> Array:
        """The chance that a clip (or frame) of this mean score is at home: 1 - p(none)."""
        chance_N: Array = expit(self.slope * score_N + self.offset)
        return chance_N

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """The fitted state as named arrays, for a weights file."""
        named: dict[str, Array] = {
            f"{PREFIX}odds": np.array([self.slope, self.offset], dtype=np.float64)
        }
        for home in self.homes:
            start = f"{PREFIX}{home.dataset}/"
            named[f"{start}share"] = home.share_K
            for block, is_available in zip(self.blocks, home.available, strict=True):
                named[f"{start}of/{block.expert}/available"] = np.array([float(is_available)])
            for name, group in zip(_group_names(self.blocks), home.groups, strict=True):
                named[f"{start}{name}/means"] = group.means_KD
                named[f"{start}{name}/covariance"] = group.covariance_DD
        return {name: array.astype(np.float32) for name, array in named.items()}


def read_novelty(
    arrays: Mapping[str, NDArray[np.floating]],
    blocks: Sequence[Block],
    datasets: Sequence[str],
) -> Novelty | None:
    """Read the novelty of a weights file back; None where it holds none.

    Args:
        arrays: all that stands in the file under ``PREFIX``.
        blocks: the fusion's experts.
        datasets: those that the card says are carried.

    Raises:
        EchoFedError: CHECKPOINT_CORRUPT where the file does not hold what the card says.
    """
    if not datasets and not arrays:
        return None
    try:
        slope, offset = arrays[f"{PREFIX}odds"].tolist()
        homes = tuple(_read_home(arrays, dataset, blocks) for dataset in datasets)
    except (KeyError, ValueError) as error:
        raise _misfit() from error
    novelty = Novelty(tuple(blocks), homes, slope, offset)
    widths = [len(experts_D) for experts_D in _experts_of_columns(blocks)]
    fits = all(
        group.means_KD.shape == (len(home.share_K), width)
        and group.covariance_DD.shape == (width, width)
        for home in homes
        for group, width in zip(home.groups, widths, strict=True)
    )
    if not fits or set(novelty.arrays()) != set(arrays):
        raise _misfit()
    return novelty


def coordinates(
    blocks: Sequence[Block], features: Arrays, logits: Arrays, evidence: Arrays
) -> list[Array]:
    """Groups of coordinates (N, D): one of each expert, then one of all experts' opinions.

    Opinions stand in the order of the experts' ids, so that what is kept does not depend on the
    order in which experts came.
    """
    features_64, logits_64, evidence_64 = (
        [array.astype(np.float64) for array in arrays] for arrays in (features, logits, evidence)
    )
    layers = [np.hstack([rows, np.log(_EPSILON + np.maximum(-rows, 0.0))]) for rows in evidence_64]
    looks = [
        np.hstack([_standardise(rows), told])
        for rows, told in zip(features_64, layers, strict=True)
    ]
    opinions = [np.hstack(pair) for pair in zip(layers, logits_64, strict=True)]
    return [*looks, np.hstack([opinions[place] for place in _by_id(blocks)])]


def _experts_of_columns(blocks: Sequence[Block]) -> list[NDArray[np.int64]]:
    """Of which expert each coordinate of each group is."""
    told = [2 * block.num_evidence for block in blocks]
    looks = [
        np.full(block.feature_width + width, place)
        for place, (block, width) in enumerate(zip(blocks, told, strict=True))
    ]
    opinions = [np.full(len(blocks[place].views) + told[place], place) for place in _by_id(blocks)]
    return [*looks, np.concatenate(opinions)]


def _by_id(blocks: Sequence[Block]) -> list[int]:
    return sorted(range(len(blocks)), key=lambda place: blocks[place].expert)


def _group_names(blocks: Sequence[Block]) -> list[str]:
    return [*(f"of/{block.expert}" for block in blocks), "of all"]


def _standardise(rows_ND: Array) -> Array:
    """Signed roots at length one: neither a bright picture nor one strong channel decides."""
    root_ND = np.sign(rows_ND) * np.sqrt(np.abs(rows_ND))
    length_N = np.linalg.norm(root_ND, axis=1, keepdims=True)
    unit_ND: Array = root_ND / np.where(length_N > 0, length_N, 1.0)
    return unit_ND


def _parts(
    home: Home,
    known: Sequence[Home],
    available_E: NDArray[np.bool_],
    columns: Sequence[NDArray[np.int64]],
    backgrounds: dict[tuple[int, bytes], tuple[_Background, ...]],
) -> tuple[_Part, ...]:
    """The groups of a home whose experts saw both the home and the frames."""
    seen_E = np.array(home.available) & available_E
    num = int(seen_E.sum())
    parts = []
    for place, (group, experts_D) in enumerate(zip(home.groups, columns, strict=True)):
        kept = seen_E[experts_D]
        if not kept.any():
            continue
        key = place, seen_E.tobytes()  # which homes are complete, not only which columns count
        if key not in backgrounds:
            backgrounds[key] = _backgrounds(known, place, kept, seen_E)
        weight = 1.0 if place == len(seen_E) else 1.0 / num
        within_DD = group.covariance_DD[np.ix_(kept, kept)]
        parts += [
            _Part(
                group=place,
                kept=kept,
                weight=background.share * weight,
                means_KD=group.means_KD[:, kept],
                whitening_DR=whitening_along(within_DD, background.axes_DR),
                background=background,
            )
            for background in backgrounds[key]
        ]
    return tuple(parts)


def _whole(home: Home, place: int) -> tuple[Array, Array]:
    """Mean and covariance of all rows of a dataset in one group, from its classes."""
    group = home.groups[place]
    mean_D = home.share_K @ group.means_KD
    apart_KD = group.means_KD - mean_D
    return mean_D, group.covariance_DD + (apart_KD.T * home.share_K) @ apart_KD


def _backgrounds(
    known: Sequence[Home], place: int, kept: NDArray[np.bool_], seen_E: NDArray[np.bool_]
) -> tuple[_Background, ...]:
    """That of all coordinates and, for an expert's own, that along the axes between datasets."""
    complete = [home for home in known if not (seen_E & ~np.array(home.available)).any()]
    whole = [_whole(home, place) for home in complete]
    means_HD = np.stack([mean_D[kept] for mean_D, _ in whole])
    within_DD = np.mean([covariance_DD for _, covariance_DD in whole], axis=0)[np.ix_(kept, kept)]
    mean_D = means_HD.mean(axis=0)
    apart_HD = means_HD - mean_D
    covariance_DD = within_DD + apart_HD.T @ apart_HD / len(whole)
    axes = [(1.0, np.eye(len(mean_D)))]
    between_DR = axes_between(apart_HD, within_DD)
    if place < len(seen_E) and between_DR.shape[1]:
        axes.append((_BETWEEN, between_DR))
    return tuple(
        _Background(share, axes_DR, mean_D, whitening_along(covariance_DD, axes_DR))
        for share, axes_DR in axes
    )


def _told(part: _Part, groups: Sequence[Array]) -> Array:
    """What one group says of every class of a home (N, K)."""
    rows_ND = groups[part.group][:, part.kept]
    back = part.background
    near_NK = _spread(rows_ND, part.means_KD, part.whitening_DR)
    background_N1 = _spread(rows_ND, back.mean_D[None], back.whitening_DR)
    told_NK: Array = _BACKGROUND * background_N1 - near_NK
    return told_NK


def _spread(rows_ND: Array, means_KD: Array, whitening_DR: Array) -> Array:
    """log(1 + d^2 / R) of each row from each mean (N, K)."""
    width = max(int(np.any(whitening_DR, axis=0).sum()), 1)
    spread_NK: Array = np.log1p(squared_distances(rows_ND, means_KD, whitening_DR) / width)
    return spread_NK


def _read_home(
    arrays: Mapping[str, NDArray[np.floating]], dataset: str, blocks: Sequence[Block]
) -> Home:
    start = f"{PREFIX}{dataset}/"
    groups = tuple(
        Group(
            arrays[f"{start}{name}/means"].astype(np.float64),
            arrays[f"{start}{name}/covariance"].astype(np.float64),
        )
        for name in _group_names(blocks)
    )
    available = tuple(bool(arrays[f"{start}of/{block.expert}/available"][0]) for block in blocks)
    return Home(dataset, available, arrays[f"{start}share"].astype(np.float64), groups)


def _misfit() -> EchoFedError:
    return EchoFedError(
        Code.CHECKPOINT_CORRUPT,
        "what a fusion keeps of its datasets does not fit its card",
        "fetch the fusion again",
    )
