"""Fit how much at home a fusion is: what is kept of every dataset, the odds, the thresholds.

Means and covariances are of training rows; odds and thresholds of validation clips. No foreign
clip is at hand, so one known dataset after the other plays it: its experts and all that is kept of
it are left out, and its training and validation clips are scored by the rest.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from aggregator.fusion.evaluate import is_scored
from aggregator.joined_rows import DatasetRows, JoinedRows, select_rows
from shared.echo.expert import Block, Carried, Rejection
from shared.echo.manifest import SPLITS
from shared.errors import Code, EchoFedError
from shared.evidence.gaussian import shrunk_covariance
from shared.evidence.rows import MIN_PATIENTS
from shared.metrics import by_clip
from shared.models.novelty import Group, Home, Novelty, Scorer, coordinates

_SHRINKAGE = 0.01  # of correlations; 0.003 to 0.03 do about equally well on six hospitals
_REFUSED_ALONE = 0.05  # share of validation clips below one half where nothing plays the foreign
Array = NDArray[np.float64]


def fit_novelty(joined: JoinedRows, homes: Mapping[str, Collection[str]]) -> Novelty | None:
    """Fit on all datasets; None where no class of any has enough patients.

    Args:
        joined: rows of all datasets.
        homes: expert -> names of the datasets that it was trained on.
    """
    found = [fit_home(rows, joined.blocks) for rows in joined.datasets]
    kept = tuple(home for home in found if home is not None)
    if not kept:
        return None
    novelty = Novelty(joined.blocks, kept)
    scorer_of = cache(novelty.scorer)
    home_clips = [
        score_clips(scorer, held_out)
        for rows in joined.datasets
        if (scorer := scorer_of(rows.available)) is not None
        and len((held_out := select_rows(rows, is_scored(rows, "val"))).label_N)
    ]
    if not home_clips:
        return novelty
    slope, offset = _fit_odds(home_clips, list(_play_foreign(novelty, joined, homes)))
    return replace(novelty, slope=slope, offset=offset)


def fit_home(rows: DatasetRows, blocks: Sequence[Block]) -> Home | None:
    """What is kept of a dataset: classes of enough patients, and no row.

    Raises:
        EchoFedError: FEATURES_NOT_FINITE.
    """
    train = select_rows(rows, is_scored(rows, "train"))
    class_N, num_classes = _classes(train)
    if not num_classes:
        return None
    kept = select_rows(train, class_N >= 0)
    class_N = class_N[class_N >= 0]
    share_K = np.bincount(class_N) / len(class_N)
    groups = []
    for rows_ND in coordinates(blocks, kept.features, kept.logits, kept.evidence):
        if not np.isfinite(rows_ND).all():
            raise EchoFedError(
                Code.FEATURES_NOT_FINITE,
                f"rows of dataset {rows.name} have values that are not finite",
                "the site must extract again",
            )
        means_KD = np.zeros((num_classes, rows_ND.shape[1]))
        np.add.at(means_KD, class_N, rows_ND)
        means_KD /= np.bincount(class_N)[:, None]
        groups.append(Group(means_KD, shrunk_covariance(rows_ND - means_KD[class_N], _SHRINKAGE)))
    return Home(rows.name, rows.available, share_K, tuple(groups))


def carried_by(novelty: Novelty | None, joined: JoinedRows) -> tuple[Carried, ...]:
    """What a fusion with this novelty holds of which dataset, for its card."""
    by_name = {rows.name: rows for rows in joined.datasets}
    found = [] if novelty is None else [(home, by_name[home.dataset]) for home in novelty.homes]
    return tuple(
        Carried(
            dataset=home.dataset,
            dataset_hash=rows.dataset_hash,
            artefact="class means and covariance",
            num_classes=len(home.share_K),
            minimum_patients=_minimum(rows),
            policy_version=rows.policy_version,
        )
        for home, rows in found
    )


def site_rejections(
    novelty: Novelty | None, datasets: Sequence[DatasetRows], *, recall: float
) -> dict[str, Rejection]:
    """Site -> thresholds that keep this share of its validation clips, labelled or not."""
    if novelty is None:
        return {}
    told: dict[str, list[Array]] = {}
    for rows in datasets:
        is_held_out_N = (rows.split_N == SPLITS.index("val")) & (rows.pass_N == 0)
        scorer = novelty.scorer(rows.available)
        if scorer is not None and is_held_out_N.any():
            near_M = score_clips(scorer, select_rows(rows, is_held_out_N))
            site = rows.name.partition("/")[0]
            told.setdefault(site, []).append(novelty.id_scalar(near_M))
    return {
        site: Rejection(keep_share(np.concatenate(parts), recall)) for site, parts in told.items()
    }


def keep_share(value_M: Array, recall: float) -> float:
    """The threshold under which as many values lie as may, for this share of them to be kept."""
    num_refused = int(np.floor((1.0 - recall) * len(value_M) + 1e-9))  # 0.05 * 40 is below 2
    return float(np.sort(value_M)[num_refused])


def score_clips(scorer: Scorer, rows: DatasetRows) -> Array:
    """Mean score over the frames of each clip, as a verdict takes it."""
    score_N = scorer.score(rows.features, rows.logits, rows.evidence)
    means_M1, _ = by_clip(score_N[:, None], rows.label_N, rows.clip_N)
    return means_M1[:, 0]


def _classes(rows: DatasetRows) -> tuple[NDArray[np.int64], int]:
    """The class of each row (N), a set of views; -1 where it has too few patients; their number."""
    sets = list(dict.fromkeys(rows.label_views))
    class_N = np.array([sets.index(views) for views in rows.label_views])[rows.label_N]
    pairs = np.unique(np.stack([class_N, rows.patient_N], axis=1), axis=0)
    is_kept_K = np.bincount(pairs[:, 0], minlength=len(sets)) >= _minimum(rows)
    renumbered_K = np.where(is_kept_K, np.cumsum(is_kept_K) - 1, -1)
    return renumbered_K[class_N], int(is_kept_K.sum())


def _minimum(rows: DatasetRows) -> int:
    """Patients that a class must have: ours, or the site's where its policy asks for more."""
    return max(MIN_PATIENTS, rows.minimum_patients)


def _play_foreign(
    novelty: Novelty, joined: JoinedRows, homes: Mapping[str, Collection[str]]
) -> Iterator[Array]:
    """Scores of each dataset's clips by a fusion that never knew it nor its experts."""
    for rows in joined.datasets:
        available = [
            is_available and rows.name not in homes.get(block.expert, ())
            for block, is_available in zip(joined.blocks, rows.available, strict=True)
        ]
        scorer = novelty.scorer(available, without=(rows.name,))
        clips = select_rows(rows, is_scored(rows, "train") | is_scored(rows, "val"))
        if scorer is not None and len(clips.label_N):
            yield score_clips(scorer, clips)


def _fit_odds(home: Sequence[Array], foreign: Sequence[Array]) -> tuple[float, float]:
    """Slope and offset of the log odds of being at home, both sides and all datasets alike.

    Without foreign clips, or where they lie nearer, the odds are even where few home clips lie
    below, and the scale is their deviation.
    """
    home_M = np.concatenate(home)
    sd = float(np.sort(home_M).std()) or 1.0
    if foreign:
        sides = [(part_M, 1.0 / len(home)) for part_M in home]
        sides += [(part_M, 1.0 / len(foreign)) for part_M in foreign]
        value_M = np.concatenate([part_M for part_M, _ in sides])
        weight_M = np.concatenate(
            [np.full(len(part_M), weight / len(part_M)) for part_M, weight in sides]
        )
        is_home_M = np.arange(len(value_M)) < len(home_M)
        order_M = np.lexsort((weight_M, is_home_M, value_M))  # not that in which datasets came
        value_M, weight_M, is_home_M = value_M[order_M], weight_M[order_M], is_home_M[order_M]
        model = LogisticRegression(max_iter=1000)
        model.fit(value_M[:, None] / sd, is_home_M, weight_M * len(value_M) / 2)
        if model.coef_[0, 0] > 0:
            return float(model.coef_[0, 0]) / sd, float(model.intercept_[0])
    return 1.0 / sd, -keep_share(home_M, 1.0 - _REFUSED_ALONE) / sd
