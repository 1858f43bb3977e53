"""The fitted blend: its parts are what they are alone, and bad features are refused."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from aggregator.fusion.analytic import choose_head, fit_discriminant, fit_ridge
from aggregator.fusion.blend import fit_blend_head
from aggregator.fusion.evaluate import fuse_rows
from aggregator.fusion.fit import fit_union_head
from aggregator.fusion.rows import held_out_rows
from aggregator.fusion.sums import FeatureSpace, sum_rows
from aggregator.fusion.train import FusionTrials, Provenance, train_fusions
from aggregator.joined_rows import JoinedRows
from aggregator.settings import FusionSettings
from shared.errors import Code, EchoFedError

QUICK = FusionSettings(variants=("sum", "ridge", "blend"), epochs=8, batch_size=64, threads=1)


@pytest.fixture(scope="module")
def trials(joined: JoinedRows) -> FusionTrials:
    return train_fusions(joined, QUICK, Provenance(""))


@pytest.mark.parametrize("kind", ["joined", "incomplete"])
def test_the_union_head_is_the_mean_of_ridge_and_discriminant(
    kind: str, request: pytest.FixtureRequest
) -> None:
    joined: JoinedRows = request.getfixturevalue(kind)
    space, held_out = FeatureSpace(joined.blocks), held_out_rows(joined)
    sums = [sum_rows(rows, space) for rows in joined.datasets]
    heads = [
        choose_head(fit, sums, held_out, space, balance=True)
        for fit in (fit_ridge, fit_discriminant)
    ]
    fusion = fit_blend_head(joined, held_out, balance=True)
    for rows in joined.datasets:
        mean_NV = np.mean([head.tell(rows) for head in heads], axis=0)
        told_NV = fuse_rows(fusion, rows).log_probabilities_NV
        mean_NV -= np.log(np.exp(mean_NV).sum(axis=1, keepdims=True))
        np.testing.assert_allclose(told_NV, mean_NV, atol=1e-3)


def test_its_sum_is_the_sum_that_is_trained_alone(trials: FusionTrials) -> None:
    alone = trials.by_variant["sum"].fusion.named_weights()
    inside = trials.by_variant["blend"].fusion.named_weights()
    assert all((inside[name] == weight).all() for name, weight in alone.items())


def test_the_sum_is_trained_once_and_a_blend_alone_is_the_same(joined: JoinedRows) -> None:
    brief = QUICK.model_copy(update={"epochs": 2})
    told: list[tuple[str, int]] = []
    both = train_fusions(
        joined,
        brief.model_copy(update={"variants": ("sum", "blend")}),
        Provenance(""),
        progress=lambda variant, epoch, _: told.append((variant, epoch)),
    )
    alone = train_fusions(joined, brief.model_copy(update={"variants": ("blend",)}), Provenance(""))
    assert told == [("sum", 1), ("sum", 2)]
    assert alone.by_variant["blend"].weights == both.by_variant["blend"].weights


def test_its_id_scores_are_those_of_competence(trials: FusionTrials, joined: JoinedRows) -> None:
    ridge = fit_union_head(joined, held_out_rows(joined), balance=True)
    for rows in joined.datasets:
        blended = fuse_rows(trials.by_variant["blend"].fusion, rows)
        np.testing.assert_array_equal(blended.id_scores_NE, fuse_rows(ridge, rows).id_scores_NE)


def test_held_out_labels_are_more_certain_than_by_either_part(trials: FusionTrials) -> None:
    certainty = {name: one.certainty for name, one in trials.by_variant.items()}
    assert certainty["blend"] > max(certainty["sum"], certainty["ridge"])


@pytest.mark.parametrize(
    ("value", "code"),
    [(np.nan, Code.FEATURES_NOT_FINITE), (1.0, Code.FEATURES_INVALID)],
)
def test_features_that_are_not_finite_or_constant_are_refused(
    joined: JoinedRows, value: float, code: Code
) -> None:
    def fill(rows: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.full_like(rows, value)

    spoilt = replace(
        joined,
        datasets=tuple(
            replace(rows, features=tuple(map(fill, rows.features))) for rows in joined.datasets
        ),
    )
    with pytest.raises(EchoFedError) as caught:
        train_fusions(spoilt, QUICK.model_copy(update={"variants": ("blend",)}), Provenance(""))
    assert caught.value.code is code
