"""The view ontology, and label maps from a site's words to sets of views."""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Literal

import yaml

from shared.errors import Code, EchoFedError

ONTOLOGY_VERSION = 1
Depth = Literal["window", "plane", "leaf"]
DEPTHS: tuple[Depth, ...] = ("window", "plane", "leaf")
"""How finely views are told apart; the leaves are the views themselves."""
OTHER = "other"
"""A label that names it means none of the site's annotated leaves, or the views beside it."""
UNTOLD = frozenset({"unknown", "not-sure"})
"""A label that names one of them says nothing."""


@dataclass(frozen=True, slots=True)
class Facets:
    """What a view is, seen from several sides; an empty facet is unknown."""

    window: str = ""
    plane: str = ""
    focus: str = ""
    mode: str = "2D"
    contrast: str = "none"


@dataclass(frozen=True, slots=True)
class View:
    """A node of the ontology; ``parent`` is empty for a root."""

    id: str
    name: str
    parent: str
    facets: Facets
    code: str
    aliases: tuple[str, ...]


class Ontology:
    """All views in union order, with their ancestry and their aliases."""

    def __init__(self, views: Iterable[View]) -> None:
        """Index the views; the order given is the union order."""
        self.views: dict[str, View] = {view.id: view for view in views}
        self._rank = {name: rank for rank, name in enumerate(self.views)}
        self._alias: dict[str, str] = {}
        for view in self.views.values():
            for text in (view.id, *view.aliases):
                other = self._alias.setdefault(_fold(text), view.id)
                if other != view.id:
                    raise EchoFedError(
                        Code.LABEL_MAP_INVALID,
                        f"alias {text!r} names both {other} and {view.id}",
                        "drop one",
                    )

    def find(self, text: str) -> View:
        """The view that a text names exactly, by id or alias.

        Raises:
            EchoFedError: VIEW_UNKNOWN with the nearest known name (never chosen silently).
        """
        name = self._alias.get(_fold(text))
        if name is None:
            raise EchoFedError(
                Code.VIEW_UNKNOWN,
                f"no view is called {text!r}",
                f"the nearest is {self.nearest(text)[0]!r}; see shared/echo/views.yaml",
            )
        return self.views[name]

    def nearest(self, text: str, *, count: int = 1, likeness: float = 0.0) -> tuple[str, ...]:
        """Ids of the views whose names look most like a text, best first.

        Args:
            text: what a site wrote.
            count: how many names are looked at; two names of one view are one answer.
            likeness: least share of matching letters, 0 to 1.
        """
        near = difflib.get_close_matches(_fold(text), self._alias, n=count, cutoff=likeness)
        return tuple(dict.fromkeys(self._alias[name] for name in near))

    def order(self, names: Iterable[str]) -> tuple[str, ...]:
        """Distinct views in union order."""
        return tuple(sorted({self.find(name).id for name in names}, key=self._rank.__getitem__))

    def is_at_or_below(self, name: str, ancestor: str) -> bool:
        """Tell whether the view is the ancestor or one of its descendants."""
        node = name
        while node:
            if node == ancestor:
                return True
            node = self.views[node].parent
        return False

    def leaves(self, name: str) -> tuple[str, ...]:
        """All views at or below the node that have no children."""
        parents = {view.parent for view in self.views.values()}
        return tuple(
            leaf for leaf in self.views if leaf not in parents and self.is_at_or_below(leaf, name)
        )

    def at_depth(self, name: str, depth: Depth) -> str:
        """What a view is called at a depth: window or plane, or the kind of trace before either.

        A view that lacks the facet stays itself. Contrast and focus are told apart at the leaves
        alone, and all parasternal views share a window.
        """
        facets = self.views[name].facets
        trace = {"2D": "", "TDI": "Doppler"}.get(facets.mode, facets.mode)
        if depth == "window":
            return trace or facets.window or name
        if depth == "plane" and facets.plane:
            return f"{trace} {facets.plane}".strip()
        return name

    def covered(self, names: Iterable[str], union: Iterable[str]) -> frozenset[str]:
        """The views of a union that lie at or below any of the nodes."""
        nodes = tuple(names)
        return frozenset(
            view for view in union if any(self.is_at_or_below(view, node) for node in nodes)
        )


@dataclass(frozen=True)
class LabelMap:
    """A site's words, and what it does with the views that no word of it stands for.

    Args:
        entries: label -> set of views; the empty set means no supervision.
        never_images: views that the site never images, nor any view below them.
        folds: view -> the label under which the site records it, though the label means another.
    """

    entries: Mapping[str, frozenset[str]]
    never_images: frozenset[str] = frozenset()
    folds: Mapping[str, str] = field(default_factory=dict)

    def views_of(self, label: str) -> frozenset[str]:
        """The set of views that a label stands for.

        Raises:
            EchoFedError: LABEL_UNMAPPED naming the label and the nearest known one.
        """
        if label in self.entries:
            return self.entries[label]
        near = difflib.get_close_matches(label, self.entries, n=1, cutoff=0.0)
        nearest = f"the nearest is {near[0]!r}; " if near else ""
        raise EchoFedError(
            Code.LABEL_UNMAPPED,
            f"label {label!r} has no entry in the label map",
            f"{nearest}add {label!r} to the label map, or map it to [] to leave it unsupervised",
        )

    def views(self) -> tuple[str, ...]:
        """All views that any label stands for, in union order."""
        return load_ontology().order(view for views in self.entries.values() for view in views)

    def annotated(self) -> frozenset[str]:
        """Leaves that the site would have labelled had it imaged them.

        Only these are ruled out by another label; what is never imaged, folded into another label
        or not mentioned says nothing.
        """
        aside = _leaves_below([*self.never_images, *self.folds]) | {OTHER} | UNTOLD
        return _leaves_below(view for views in self.entries.values() for view in views) - aside


@cache
def load_ontology() -> Ontology:
    """The ontology of this release, read once from views.yaml."""
    document = yaml.safe_load((files("shared.echo") / "views.yaml").read_text("utf-8"))
    if document["version"] != ONTOLOGY_VERSION:
        raise EchoFedError(Code.LABEL_MAP_INVALID, "views.yaml is of another version", "reinstall")
    built: dict[str, View] = {}
    for node in document["views"]:
        built[node["id"]] = _build_view(node, built)
    return Ontology(built.values())


def build_label_map(
    entries: Mapping[str, str | Iterable[str]],
    *,
    never_images: Iterable[str] = (),
    folds: Mapping[str, str] | None = None,
) -> LabelMap:
    """Validate label -> view or views, by id or alias, and the record of the other views.

    Raises:
        EchoFedError: VIEW_UNKNOWN for a view the ontology lacks, LABEL_MAP_INVALID for no label or
            a record that contradicts itself.
    """
    if not entries:
        raise EchoFedError(
            Code.LABEL_MAP_INVALID,
            "the label map has no entry",
            "add label: [view]; in a draft, take the '#' away before the lines that hold",
        )
    ontology = load_ontology()
    built: dict[str, frozenset[str]] = {}
    for label, views in entries.items():
        names = [views] if isinstance(views, str) else list(views)
        built[str(label)] = frozenset(ontology.find(str(name)).id for name in names)
    label_map = LabelMap(
        built,
        frozenset(ontology.find(name).id for name in never_images),
        {ontology.find(view).id: label for view, label in (folds or {}).items()},
    )
    _require_consistent(label_map)
    return label_map


def map_by_alias(labels: Iterable[str]) -> LabelMap:
    """A label map for labels that are ids or aliases themselves; anything else is an error."""
    return build_label_map({label: [load_ontology().find(label).id] for label in set(labels)})


def _require_consistent(label_map: LabelMap) -> None:
    """A view is imaged or not, and stands under one label or is folded into another."""
    never = _leaves_below(label_map.never_images)
    for label, views in label_map.entries.items():
        leaves = _leaves_below(views)
        if leaves and leaves <= never:
            raise _contradiction(f"label {label!r} stands only for views in never_images")
    named = _leaves_below(view for views in label_map.entries.values() for view in views)
    for view, label in label_map.folds.items():
        leaves = _leaves_below([view])
        if label not in label_map.entries:
            raise _contradiction(f"view {view} is folded into {label!r}, which is no label")
        if leaves & never:
            raise _contradiction(f"view {view} is folded into {label!r} and in never_images")
        if leaves & named:
            raise _contradiction(f"view {view} is folded into {label!r}, yet a label stands for it")


def _contradiction(what: str) -> EchoFedError:
    return EchoFedError(Code.LABEL_MAP_INVALID, what, "keep the line of the two that holds")


def _leaves_below(views: Iterable[str]) -> frozenset[str]:
    return frozenset(leaf for view in views for leaf in load_ontology().leaves(view))


def _build_view(node: Mapping[str, object], built: Mapping[str, View]) -> View:
    parent = str(node.get("parent", ""))
    inherited = built[parent].facets if parent else Facets()
    values = {
        name: str(node.get(name, getattr(inherited, name)))
        for name in ("window", "plane", "focus", "mode", "contrast")
    }
    aliases = node.get("aliases", [])
    assert isinstance(aliases, list)
    return View(
        id=str(node["id"]),
        name=str(node["name"]),
        parent=parent,
        facets=Facets(**values),
        code=str(node.get("code", "")),
        aliases=tuple(str(alias) for alias in aliases),
    )


def _fold(text: str) -> str:
    return re.sub(r"[\s_\-]+", "-", text.strip().casefold())
