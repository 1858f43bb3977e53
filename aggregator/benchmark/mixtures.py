"""One-round federation by class mixtures: Gaussians leave the sites, a head learns samples of them.

Reference: FedPFT (Beitollahi et al. 2024, arXiv 2402.01862): each site fits a mixture of Gaussians
with diagonal covariances to the features of each class; the centre draws as many samples as there
were rows and trains a linear head. Here the class is the site's label, so that a sample's target
is the set of views that the label stands for; no privacy noise is added.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture

from aggregator.benchmark.lessons import (
    LEARNING_RATE,
    Head,
    Lesson,
    arrange_columns,
    arrange_lessons,
    blank_head,
    linear_teller,
    plain_loss,
    train_head,
)
from aggregator.benchmark.stage import Stage, Teller
from aggregator.benchmark.tuning import choose_teller
from aggregator.fusion.rows import held_out_rows
from shared.seeding import derive_seed, numpy_generator

COMPONENTS = (1, 2, 3, 5, 8)
"""Gaussians per label, which is what is tuned; fewer where there are not ten rows for each."""
_ROWS_PER_COMPONENT = 10
_LEAST_VARIANCE = 1e-3  # of standardised columns; keeps labels of one row harmless


@dataclass(frozen=True, slots=True, eq=False)
class LabelMixture:
    """What leaves a site of one label: no row.

    Args:
        num: rows that it stands for.
        share_V: of the label among the union views.
        weight_K: of each Gaussian; they sum to 1.
        variance_KD: diagonals of the covariances.
    """

    num: int
    share_V: NDArray[np.float64]
    weight_K: NDArray[np.float64]
    mean_KD: NDArray[np.float64]
    variance_KD: NDArray[np.float64]


def fit_mixtures(stage: Stage) -> Teller:
    """Train on samples of every dataset's mixtures; the number of Gaussians is tuned."""
    columns = arrange_columns(stage)
    lessons = arrange_lessons(stage, columns)
    tried = (linear_teller(columns, _learn_samples(lessons, num, stage.seed)) for num in COMPONENTS)
    return choose_teller(tried, held_out_rows(stage.joined))


def describe_labels(lesson: Lesson, num_components: int, seed: int) -> list[LabelMixture]:
    """A mixture per label of a dataset."""
    mixtures = []
    for label in np.unique(lesson.rows.label_N).tolist():
        of_label_N = lesson.rows.label_N == label
        rows_ND = lesson.columns_ND[of_label_N]
        num = min(num_components, max(1, len(rows_ND) // _ROWS_PER_COMPONENT))
        if num == 1:
            found = np.ones(1), rows_ND.mean(axis=0)[None], rows_ND.var(axis=0)[None]
        else:
            found = _fit_mixture(rows_ND, num, derive_seed(seed, lesson.rows.name, label))
        weight_K, mean_KD, variance_KD = found
        mixtures.append(
            LabelMixture(
                len(rows_ND),
                lesson.share_NV[of_label_N][0],
                weight_K,
                mean_KD,
                np.maximum(variance_KD, _LEAST_VARIANCE),
            )
        )
    return mixtures


def draw_samples(
    mixtures: Sequence[LabelMixture], generator: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """As many samples of each label as it had rows: columns (N, D) and shares (N, V)."""
    columns, shares = [], []
    for one in mixtures:
        component_N = generator.choice(len(one.weight_K), size=one.num, p=one.weight_K)
        noise_ND = generator.normal(size=(one.num, one.mean_KD.shape[1]))
        spread_ND = noise_ND * np.sqrt(one.variance_KD[component_N])
        columns.append(one.mean_KD[component_N] + spread_ND)
        shares.append(np.tile(one.share_V, (one.num, 1)))
    return np.concatenate(columns), np.concatenate(shares)


def _learn_samples(lessons: Sequence[Lesson], num_components: int, seed: int) -> Head:
    """One head for samples of all datasets at once."""
    generator = numpy_generator(seed, "mixtures")
    mixtures = [
        mixture for lesson in lessons for mixture in describe_labels(lesson, num_components, seed)
    ]
    columns_ND, share_NV = draw_samples(mixtures, generator)
    everything = replace(lessons[-1], columns_ND=columns_ND, share_NV=share_NV)
    return train_head(
        blank_head(everything),
        everything,
        plain_loss(everything),
        learning_rate=LEARNING_RATE,
        generator=generator,
    )


def _fit_mixture(
    rows_ND: NDArray[np.float64], num: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    mixture = GaussianMixture(
        num,
        covariance_type="diag",
        tol=1e-2,
        reg_covar=_LEAST_VARIANCE,
        max_iter=200,
        random_state=seed % 2**32,
    )
    mixture.fit(rows_ND)
    return mixture.weights_, mixture.means_, mixture.covariances_
