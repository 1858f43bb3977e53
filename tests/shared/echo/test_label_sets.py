"""Laws of labels as sets, in float64: what they rule in, what they rule out, what the loss pushes.

One site has A4C and every level of PSAX but the chordae, which it never images; it records A5C as
A4C, and calls the rest other.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor

from shared.echo.label_sets import named_views, possible_views, telling_labels
from shared.echo.ontology import build_label_map, load_ontology
from shared.metrics import vocabulary_log_probabilities
from shared.models.loss import label_set_loss

UNION = ("A4C", "A5C", "A2C", "PLAX", "PSAX-AV", "PSAX-chordae", "PSAX-PM", "other")
MAP = build_label_map(
    {"4": "A4C", "SAX": "PSAX", "rest": "other", "4 or rest": ["A4C", "other"], "?": "not-sure"},
    never_images=["PSAX-chordae"],
    folds={"A5C": "4"},
)
RULED_OUT = [UNION.index(view) for view in ("A4C", "PSAX-AV", "PSAX-PM")]


@dataclass(frozen=True)
class SiteWords:
    labels: tuple[str, ...]
    label_views: tuple[tuple[str, ...], ...]
    annotated: tuple[str, ...] = ()
    never_images: tuple[str, ...] = ()
    folds: Mapping[str, str] = field(default_factory=dict)


WORDS = SiteWords(
    tuple(MAP.entries),
    tuple(load_ontology().order(views) for views in MAP.entries.values()),
    load_ontology().order(MAP.annotated()),
    tuple(MAP.never_images),
    MAP.folds,
)
POSSIBLE = dict(zip(WORDS.labels, possible_views(WORDS, UNION), strict=True))


def draw_logits(seed: int, num: int = 40) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(num, len(UNION))) * 3)


def loss_of(logits_NV: Tensor, possible_V: np.ndarray) -> Tensor:
    return label_set_loss(logits_NV, torch.from_numpy(possible_V).expand(logits_NV.shape))


def test_the_loss_of_other_is_the_exclusion_of_what_is_annotated(seed: int) -> None:
    logits_NV = draw_logits(seed)
    annotated_N = torch.softmax(logits_NV, dim=1)[:, RULED_OUT].sum(dim=1)
    torch.testing.assert_close(loss_of(logits_NV, POSSIBLE["rest"]), -torch.log1p(-annotated_N))


def test_a_view_beside_other_is_not_ruled_out(seed: int) -> None:
    logits_NV = draw_logits(seed)
    psax_N = torch.softmax(logits_NV, dim=1)[:, RULED_OUT[1:]].sum(dim=1)
    torch.testing.assert_close(loss_of(logits_NV, POSSIBLE["4 or rest"]), -torch.log1p(-psax_N))


def test_a_set_of_one_is_cross_entropy(seed: int) -> None:
    logits_NV = draw_logits(seed)
    for place in range(len(UNION)):
        one_V = np.arange(len(UNION)) == place
        truth_N = torch.full((len(logits_NV),), place)
        expected_N = torch.nn.functional.cross_entropy(logits_NV, truth_N, reduction="none")
        torch.testing.assert_close(loss_of(logits_NV, one_V), expected_N)


def test_a_wider_set_never_has_a_lower_probability(seed: int) -> None:
    log_NV = torch.log_softmax(draw_logits(seed), dim=1).numpy()
    wider_KV = np.tri(len(UNION), dtype=np.bool_)
    told_NK = vocabulary_log_probabilities(log_NV, wider_KV)
    assert (np.diff(told_NK, axis=1) >= 0).all()
    assert np.allclose(told_NK[:, -1], 0.0)


@pytest.mark.parametrize("label", ["rest", "4 or rest"])
def test_other_pushes_down_what_is_annotated_and_nothing_else(seed: int, label: str) -> None:
    """Neither what is never imaged, nor what is folded into a label, nor what nobody mentioned."""
    logits_NV = draw_logits(seed).requires_grad_()
    loss_of(logits_NV, POSSIBLE[label]).sum().backward()
    assert logits_NV.grad is not None
    pushed = RULED_OUT if label == "rest" else RULED_OUT[1:]
    is_pushed_V = np.isin(np.arange(len(UNION)), pushed)
    assert (logits_NV.grad[:, is_pushed_V] > 0).all()
    assert (logits_NV.grad[:, ~is_pushed_V] <= 0).all()


def test_a_folded_view_is_not_pushed_down_by_the_label_that_it_is_folded_into(seed: int) -> None:
    logits_NV = draw_logits(seed).requires_grad_()
    loss_of(logits_NV, POSSIBLE["4"]).sum().backward()
    assert logits_NV.grad is not None
    assert (logits_NV.grad[:, UNION.index("A5C")] < 0).all()
    assert (logits_NV.grad[:, UNION.index("A2C")] > 0).all()
    named_V = named_views(WORDS, UNION)[WORDS.labels.index("4")]
    assert np.flatnonzero(named_V).tolist() == [UNION.index("A4C")]


def test_a_wider_view_is_ruled_out_if_all_that_the_site_images_of_it_is_annotated() -> None:
    (rest_V,) = possible_views(
        SiteWords(("rest",), (("other",),), WORDS.annotated, WORDS.never_images),
        ("PSAX", "PSAX-chordae", "parasternal"),
    )
    assert rest_V.tolist() == [False, True, True]


def test_not_sure_nothing_and_other_without_a_record_say_nothing() -> None:
    words = SiteWords(
        ("a", "b", "c", "d", "e"),
        (("not-sure",), (), ("unknown", "A4C"), ("other",), ("other", "A4C")),
    )
    assert not telling_labels(words).any()
    assert not possible_views(words, UNION).any()
    assert not named_views(words, UNION).any()
    assert telling_labels(WORDS).tolist() == [True, True, True, True, False]


def test_other_itself_is_never_ruled_out() -> None:
    """Records of earlier manifests have it among the annotated leaves."""
    words = SiteWords(("4", "rest"), (("A4C",), ("other",)), ("A4C-full", "other", "not-sure"))
    assert possible_views(words, ("A4C-full", "A2C", "other"))[1].tolist() == [False, True, True]
    assert not telling_labels(SiteWords(("rest",), (("other",),), ("other",))).any()
    assert not {"other", "not-sure"} & MAP.annotated()
