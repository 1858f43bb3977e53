"""EvidenceContract over the whole table, and the laws of each evidence."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist, cosine, mahalanobis
from scipy.special import logsumexp
from sklearn.covariance import EmpiricalCovariance
from sklearn.decomposition import PCA

from shared.errors import Code, EchoFedError
from shared.evidence import EVIDENCE
from shared.evidence.gaussian import squared_distances, whitening
from shared.evidence.mahalanobis import Mahalanobis
from shared.evidence.relative_mahalanobis import RelativeMahalanobis
from shared.evidence.rows import MIN_PATIENTS, OwnRows, evidence_arrays, own_rows
from shared.evidence.vim import Vim
from shared.files import arrays_from_bytes, arrays_to_bytes

NAMES = EVIDENCE.names()
ON_LOGITS = ("energy", "max logit")
WIDTH, CLASSES = 12, 3
Array = NDArray[np.float64]


class World:
    """Three classes of Gaussians, a linear head that knows them, and a shift of the domain."""

    def __init__(self, seed: int = 0) -> None:
        self.generator = np.random.default_rng(seed)
        self.means_KD = 4.0 * np.eye(CLASSES, WIDTH)
        self.mixing_DD = np.eye(WIDTH) + 0.2 * self.generator.normal(size=(WIDTH, WIDTH))

    def draw(self, num: int, shift: float = 0.0) -> tuple[Array, Array, NDArray[np.int64]]:
        """Features, logits, labels; a foreign domain shrinks what tells the classes and shifts."""
        label_N = np.arange(num) % CLASSES
        noise_ND = self.generator.normal(size=(num, WIDTH)) @ self.mixing_DD
        away_D = np.r_[np.zeros(CLASSES), np.ones(WIDTH - CLASSES)]
        features_ND = self.means_KD[label_N] * max(0.0, 1.0 - shift / 4) + noise_ND + shift * away_D
        return features_ND, features_ND[:, :CLASSES] * 2.0, label_N

    def own(self, num: int = 300) -> OwnRows:
        features_ND, logits_NC, label_N = self.draw(num)
        return own_rows(features_ND, logits_NC, label_N, np.arange(num) // CLASSES % 20)


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("name", NAMES)
class TestEvidenceContract:
    def test_own_data_is_above_foreign_data(self, name: str, world: World) -> None:
        evidence = EVIDENCE[name].fit(world.own())
        home_N = evidence.score(*world.draw(200)[:2])
        foreign_N = evidence.score(*world.draw(200, shift=4.0)[:2])
        # for equal distributions the share would be 0.5 with a standard error of 0.03
        assert (home_N[:, None] > foreign_N).mean() > 0.9

    def test_farther_is_less_at_home(self, name: str, world: World) -> None:
        evidence = EVIDENCE[name].fit(world.own())
        means = [evidence.score(*world.draw(300, shift=s)[:2]).mean() for s in (0.0, 1.0, 2.0, 4.0)]
        assert means == sorted(means, reverse=True)

    def test_it_reads_back_equal(self, name: str, world: World) -> None:
        fitted = EVIDENCE[name].fit(world.own())
        beside = {"another's": np.zeros(2)}  # a weights file holds more than one thing
        arrays, _ = arrays_from_bytes(arrays_to_bytes(evidence_arrays(fitted) | beside, {}))
        arrays.pop("another's")
        features_ND, logits_NC, _ = world.draw(50)
        again = EVIDENCE[name](**arrays)
        assert np.array_equal(
            again.score(features_ND, logits_NC), fitted.score(features_ND, logits_NC)
        )

    def test_nothing_it_keeps_grows_with_the_rows(self, name: str, world: World) -> None:
        def shapes(num: int) -> list[tuple[int, ...]]:
            return [
                array.shape
                for array in evidence_arrays(EVIDENCE[name].fit(world.own(num))).values()
            ]

        assert shapes(300) == shapes(600)

    def test_the_order_of_rows_does_not_matter(self, name: str, world: World) -> None:
        own, (features_ND, logits_NC, _) = world.own(), world.draw(50)
        order_N = world.generator.permutation(len(own.class_N))
        turned = OwnRows(
            own.features_ND[order_N],
            own.logits_NC[order_N],
            own.class_N[order_N],
            own.patient_N[order_N],
        )
        np.testing.assert_allclose(
            EVIDENCE[name].fit(own).score(features_ND, logits_NC),
            EVIDENCE[name].fit(turned).score(features_ND, logits_NC),
            rtol=1e-8,
        )
        places = world.generator.permutation(50)
        fitted = EVIDENCE[name].fit(own)
        np.testing.assert_allclose(
            fitted.score(features_ND, logits_NC)[places],
            fitted.score(features_ND[places], logits_NC[places]),
            rtol=1e-12,
        )

    def test_a_column_that_never_varies_does_no_harm(self, name: str, world: World) -> None:
        own = world.own()
        features_ND = own.features_ND.copy()
        features_ND[:, -1] = 0.25
        fitted = EVIDENCE[name].fit(replace(own, features_ND=features_ND))
        assert np.isfinite(fitted.score(*world.draw(50)[:2])).all()


@pytest.mark.parametrize("name", ON_LOGITS)
def test_logits_that_rise_by_a_constant_raise_it_by_that(name: str, world: World) -> None:
    features_ND, logits_NC, _ = world.draw(50)
    evidence = EVIDENCE[name].fit(world.own())
    np.testing.assert_allclose(
        evidence.score(features_ND, logits_NC + 3.5), evidence.score(features_ND, logits_NC) + 3.5
    )


def test_energy_is_the_log_sum_exp_even_of_huge_logits(world: World) -> None:
    energy = EVIDENCE["energy"].fit(world.own())
    logits_NC = np.array([[0.0, 0.0], [1e4, 1e4]])
    assert energy.score(np.zeros((2, 1)), logits_NC) == pytest.approx([np.log(2), 1e4 + np.log(2)])


@pytest.mark.parametrize("kind", [Mahalanobis, RelativeMahalanobis])
def test_no_invertible_affine_map_changes_an_unshrunk_distance(
    kind: type[Mahalanobis] | type[RelativeMahalanobis], world: World
) -> None:
    own, (features_ND, logits_NC, _) = world.own(), world.draw(50)
    map_DD = world.generator.normal(size=(WIDTH, WIDTH)) + 2.0 * np.eye(WIDTH)
    offset_D = world.generator.normal(size=WIDTH)
    mapped = replace(own, features_ND=own.features_ND @ map_DD + offset_D)
    np.testing.assert_allclose(
        kind.fit(mapped, shrinkage=0.0).score(features_ND @ map_DD + offset_D, logits_NC),
        kind.fit(own, shrinkage=0.0).score(features_ND, logits_NC),
        rtol=1e-7,
        atol=1e-7,
    )


@pytest.mark.parametrize("kind", [Mahalanobis, RelativeMahalanobis])
def test_units_of_the_columns_do_not_change_a_shrunk_distance(
    kind: type[Mahalanobis] | type[RelativeMahalanobis], world: World
) -> None:
    own, (features_ND, logits_NC, _) = world.own(), world.draw(50)
    unit_D = np.exp(world.generator.normal(size=WIDTH))
    mapped = replace(own, features_ND=own.features_ND * unit_D)
    np.testing.assert_allclose(
        kind.fit(mapped).score(features_ND * unit_D, logits_NC),
        kind.fit(own).score(features_ND, logits_NC),
        rtol=1e-9,
    )


def test_mahalanobis_is_scipys_with_scikit_learns_covariance(world: World) -> None:
    own, (features_ND, logits_NC, _) = world.own(), world.draw(20)
    means_KD = np.stack([own.features_ND[own.class_N == k].mean(axis=0) for k in range(CLASSES)])
    within = EmpiricalCovariance(assume_centered=True)
    within.fit(own.features_ND - means_KD[own.class_N])
    nearest_N = [
        min(mahalanobis(row_D, mean_D, within.precision_) ** 2 for mean_D in means_KD)
        for row_D in features_ND
    ]
    found_N = Mahalanobis.fit(own, shrinkage=0.0).score(features_ND, logits_NC)
    np.testing.assert_allclose(found_N, -np.array(nearest_N), rtol=1e-8)
    background = EmpiricalCovariance().fit(own.features_ND)
    relative_N = RelativeMahalanobis.fit(own, shrinkage=0.0).score(features_ND, logits_NC)
    np.testing.assert_allclose(
        relative_N, background.mahalanobis(features_ND) - nearest_N, rtol=1e-7, atol=1e-7
    )


def test_full_shrinkage_leaves_the_variances(world: World) -> None:
    centred_ND = world.own().features_ND
    centred_ND = centred_ND - centred_ND.mean(axis=0)
    found_NK = squared_distances(centred_ND, np.zeros((1, WIDTH)), whitening(centred_ND, 1.0))
    expected_N = cdist(centred_ND, np.zeros((1, WIDTH)), "seuclidean", V=centred_ND.var(axis=0))
    np.testing.assert_allclose(found_NK, expected_N**2, rtol=1e-10)


def test_whitened_rows_have_the_unit_covariance(world: World) -> None:
    centred_ND = world.own().features_ND
    centred_ND = centred_ND - centred_ND.mean(axis=0)
    white_ND = centred_ND @ whitening(centred_ND, 0.0)
    np.testing.assert_allclose(white_ND.T @ white_ND / len(white_ND), np.eye(WIDTH), atol=1e-9)


def test_a_prototype_weighs_every_patient_the_same(world: World) -> None:
    own, (features_ND, logits_NC, _) = world.own(), world.draw(20)
    prototypes_KD = []
    for k in range(CLASSES):
        patients = np.unique(own.patient_N[own.class_N == k])
        chosen = [(own.class_N == k) & (own.patient_N == patient) for patient in patients]
        prototypes_KD.append(np.mean([own.features_ND[one].mean(axis=0) for one in chosen], axis=0))
    middle_D = own.features_ND.mean(axis=0)
    expected_N = [
        max(1.0 - cosine(row_D - middle_D, mean_D - middle_D) for mean_D in prototypes_KD)
        for row_D in features_ND
    ]
    found_N = EVIDENCE["prototype"].fit(own).score(features_ND, logits_NC)
    np.testing.assert_allclose(found_N, expected_N, rtol=1e-9)


def test_vim_in_the_principal_subspace_is_the_energy(world: World) -> None:
    fitted = Vim.fit(world.own())
    num = fitted.basis_DS.shape[1]
    assert 0 < num < WIDTH
    inside_ND = fitted.mean_D + world.generator.normal(size=(20, num)) @ fitted.basis_DS.T
    logits_NC = world.generator.normal(size=(20, CLASSES))
    np.testing.assert_allclose(
        fitted.score(inside_ND, logits_NC), logsumexp(logits_NC, axis=1), atol=1e-9
    )


def test_vims_residual_is_what_scikit_learns_pca_leaves(world: World) -> None:
    own, (features_ND, logits_NC, _) = world.own(), world.draw(20)
    fitted = Vim.fit(own)
    pca = PCA(fitted.basis_DS.shape[1], svd_solver="full").fit(own.features_ND)
    left_ND = features_ND - pca.inverse_transform(pca.transform(features_ND))
    expected_N = logsumexp(logits_NC, axis=1) - fitted.alpha * np.linalg.norm(left_ND, axis=1)
    np.testing.assert_allclose(fitted.score(features_ND, logits_NC), expected_N, rtol=1e-8)


def test_vims_virtual_logit_is_on_average_the_highest_logit(world: World) -> None:
    own = world.own()
    fitted = Vim.fit(own)
    virtual_N = logsumexp(own.logits_NC, axis=1) - fitted.score(own.features_ND, own.logits_NC)
    assert virtual_N.mean() == pytest.approx(own.logits_NC.max(axis=1).mean())


@pytest.mark.slow
def test_it_is_pytorch_ood_with_the_opposite_sign(world: World) -> None:
    """Where they do the same: unshrunk, their scatter a sum, ViM about a point of our choice."""
    ood = pytest.importorskip("pytorch_ood.detector")
    torch = pytest.importorskip("torch")
    own, (features_ND, _, _) = world.own(), world.draw(20)
    middle_D = own.features_ND.mean(axis=0)
    own = replace(own, logits_NC=own.features_ND - middle_D)
    logits_NC = features_ND - middle_D
    vim = Vim.fit(own)
    head = {"w": torch.eye(WIDTH), "b": torch.from_numpy(-middle_D)}
    num = len(own.class_N)
    pairs = (
        (Mahalanobis.fit(own, shrinkage=0.0), ood.Mahalanobis(None), 2.0 * num),
        (RelativeMahalanobis.fit(own, shrinkage=0.0), ood.RMD(None), num),
        (vim, ood.ViM(None, vim.basis_DS.shape[1], **head), 1.0),
    )
    for ours, theirs, factor in pairs:
        theirs.fit_features(
            torch.from_numpy(own.features_ND).float(), torch.from_numpy(own.class_N)
        )
        told_N = theirs.predict_features(torch.from_numpy(features_ND).float()).numpy()
        found_N = ours.score(features_ND, logits_NC)
        np.testing.assert_allclose(found_N, -factor * told_N, rtol=2e-3, atol=2e-3)  # float32
    for name, score in (("energy", ood.EnergyBased.score), ("max logit", ood.MaxLogit.score)):
        told_N = score(torch.from_numpy(logits_NC)).numpy()
        found_N = EVIDENCE[name].fit(own).score(features_ND, logits_NC)
        np.testing.assert_allclose(found_N, -told_N, rtol=1e-9)


def refused(
    change: Callable[[Array, Array], None] = lambda features, logits: None, *, per_class: int = 40
) -> EchoFedError:
    features_ND, logits_NC, label_N = World().draw(CLASSES * per_class)
    change(features_ND, logits_NC)
    with pytest.raises(EchoFedError) as caught:
        own_rows(features_ND, logits_NC, label_N, np.arange(len(label_N)))
    return caught.value


def test_one_row_per_class_is_refused() -> None:
    assert refused(per_class=1).code is Code.TOO_FEW_PATIENTS


def test_fewer_patients_than_five_are_refused_however_many_rows() -> None:
    features_ND, logits_NC, label_N = World().draw(300)
    with pytest.raises(EchoFedError) as caught:
        own_rows(features_ND, logits_NC, label_N, np.arange(300) // CLASSES % (MIN_PATIENTS - 1))
    assert caught.value.code is Code.TOO_FEW_PATIENTS


def test_constant_features_are_refused() -> None:
    def flatten(features_ND: Array, logits_NC: Array) -> None:
        features_ND[:] = 0.1

    assert refused(flatten).code is Code.FEATURES_INVALID


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("which", [0, 1])
def test_values_that_are_not_finite_are_refused(value: float, which: int) -> None:
    def spoil(*arrays: Array) -> None:
        arrays[which][3, 1] = value

    assert refused(spoil).code is Code.FEATURES_NOT_FINITE


def test_rows_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(EchoFedError) as caught:
        own_rows(np.ones((3, 2)), np.ones((2, 2)), np.zeros(3, int), np.arange(3))
    assert caught.value.code is Code.SHAPE_MISMATCH


@pytest.mark.parametrize("name", NAMES)
def test_a_class_of_too_few_patients_leaves_no_trace(name: str) -> None:
    world = World()
    features_ND, logits_NC, label_N = world.draw(300)
    patient_N = np.where(label_N == 1, np.arange(300) % (MIN_PATIENTS - 1), np.arange(300))
    kept_N = label_N != 1
    whole = own_rows(features_ND, logits_NC, label_N, patient_N)
    part = own_rows(features_ND[kept_N], logits_NC[kept_N], label_N[kept_N], patient_N[kept_N])
    asked = world.draw(20)[:2]
    assert np.array_equal(
        EVIDENCE[name].fit(whole).score(*asked), EVIDENCE[name].fit(part).score(*asked)
    )
