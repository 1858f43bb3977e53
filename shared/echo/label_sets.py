"""What the labels of a dataset say of a list of views, as sets; the loss and the scores sum them.

A label rules in the views at or below its nodes and those that its site folds into it. One that
names ``other`` rules in every view but those that its site would have labelled otherwise, so that
the marginal loss over what is left is ``-log(1 - sum of the annotated views)``.

Reference: marginal and exclusion loss of partially labelled data, Shi et al. 2021 (arXiv
2007.03868).
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shared.echo.ontology import OTHER, UNTOLD, load_ontology


class Words(Protocol):
    """A dataset's labels in the order of K, their views, and the site's record of other views.

    ``annotated``, ``never_images`` and ``folds`` are as in ``LabelMap``.
    """

    @property
    def labels(self) -> tuple[str, ...]:
        """The site's words."""

    @property
    def label_views(self) -> tuple[tuple[str, ...], ...]:
        """The views of each label."""

    @property
    def annotated(self) -> tuple[str, ...]:
        """Leaves that the site would have labelled had it imaged them."""

    @property
    def never_images(self) -> tuple[str, ...]:
        """Views that the site never images."""

    @property
    def folds(self) -> Mapping[str, str]:
        """View -> the label under which the site records it."""


def says_something(views: Collection[str], annotated: Collection[str]) -> bool:
    """Whether a label of these views tells anything; ``other`` alone rules out what is annotated.

    Args:
        views: of the label.
        annotated: leaves that its site would have labelled.
    """
    if not views or not UNTOLD.isdisjoint(views):
        return False
    return OTHER not in views or bool(set(annotated) - UNTOLD - {OTHER})


def telling_labels(words: Words) -> NDArray[np.bool_]:
    """The labels that say something (K)."""
    return np.array(
        [says_something(views, words.annotated) for views in words.label_views], dtype=np.bool_
    )


def named_views(words: Words, views: Sequence[str]) -> NDArray[np.bool_]:
    """The views at or below those that each label names (K, V); none where it says nothing."""
    return np.array(
        [
            _at_or_below(nodes if says_something(nodes, words.annotated) else (), views)
            for nodes in words.label_views
        ],
        dtype=np.bool_,
    ).reshape(len(words.labels), len(views))


def possible_views(words: Words, views: Sequence[str]) -> NDArray[np.bool_]:
    """The views that may be shown where a label was given (K, V); none where it says nothing."""
    possible_KV = named_views(words, views)
    for row in np.flatnonzero(telling_labels(words)):
        folded = [view for view, label in words.folds.items() if label == words.labels[row]]
        possible_KV[row] |= _at_or_below(folded, views)
        if OTHER in words.label_views[row]:
            possible_KV[row] |= ~_ruled_out(words, views)
    return possible_KV


def _at_or_below(nodes: Sequence[str], views: Sequence[str]) -> NDArray[np.bool_]:
    covered = load_ontology().covered(nodes, views)
    return np.array([view in covered for view in views], dtype=np.bool_)


def _ruled_out(words: Words, views: Sequence[str]) -> NDArray[np.bool_]:
    """The views that the site would have given another label (V).

    Of a view with leaves below it some must be annotated and no other one imaged.
    """
    ontology = load_ontology()
    annotated = set(words.annotated) - UNTOLD - {OTHER}
    absent = {leaf for view in words.never_images for leaf in ontology.leaves(view)}
    leaves = [set(ontology.leaves(view)) for view in views]
    return np.array([bool(one & annotated) and one <= annotated | absent for one in leaves])
