"""Condensing at the site: the same frames of every expert, supervised plain rows only."""

from dataclasses import replace

import numpy as np
import pytest

from shared.echo.features import ARRAYS, FeatureExport
from shared.errors import Code, EchoFedError
from shared.testing.exports import GaussianWorld
from site_client.condense import condense

WORLD = GaussianWorld({"north": ("A4C", "A2C"), "south": ("A4C", "PLAX")}, feature_width=6)


def exports() -> list[FeatureExport]:
    return [WORLD.export("north", expert) for expert in ("north", "south")]


def shuffled(export: FeatureExport) -> FeatureExport:
    order = np.random.default_rng(1).permutation(export.card.num_rows)
    return replace(export, **{name: getattr(export, name)[order] for name in ARRAYS})


def test_the_columns_of_all_experts_stand_side_by_side() -> None:
    one, other = exports()
    told = condense([one, other], minimum=2, created="2026-01-01")
    told.validate()
    assert [block.expert for block in told.card.blocks] == [one.card.expert, other.card.expert]
    kept_N = (one.pass_N == 0) & (one.split_N == 0) & (one.label_N == 1)
    expected_D = other.features_ND[kept_N].astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(told.moments.mean_SKM[0, 1, 6:12], expected_D, atol=1e-12)
    assert told.moments.num_frames_SK[0, 1] == kept_N.sum()


def test_the_order_of_rows_does_not_matter() -> None:
    one, other = exports()
    told = condense([one, other], minimum=2, created="").moments
    mixed = condense([shuffled(one), other], minimum=2, created="").moments
    np.testing.assert_allclose(told.covariance_SMM, mixed.covariance_SMM, atol=1e-12)
    np.testing.assert_array_equal(told.num_patients_SK, mixed.num_patients_SK)


def test_labels_without_a_view_are_not_told_of() -> None:
    unsupervised = [
        replace(export, card=replace(export.card, label_views=(("A4C",), ())))
        for export in exports()
    ]
    moments = condense(unsupervised, minimum=2, created="").moments
    assert moments.num_frames_SK[0, 0]
    assert not moments.num_frames_SK[:, 1].any()


def test_exports_of_other_frames_are_refused() -> None:
    one, other = exports()
    fewer = {name: getattr(other, name)[1:] for name in ARRAYS}
    with pytest.raises(EchoFedError) as caught:
        condense([one, replace(other, **fewer)], minimum=2, created="")
    assert caught.value.code is Code.FEATURES_INVALID
