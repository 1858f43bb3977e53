"""Settings: YAML plus ``--set a.b=c`` become a frozen tree; an unknown key is an error."""

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import rfc8785
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from shared.errors import Code, EchoFedError


class Settings(BaseModel):
    """Base of every settings class: frozen, unknown keys refused, field docstrings kept."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True
    )


S = TypeVar("S", bound=Settings)


def load_settings(kind: type[S], path: Path, overrides: Sequence[str] = ()) -> S:
    """Read a YAML file, apply the overrides and validate the tree.

    Args:
        kind: settings class.
        path: YAML file.
        overrides: ``a.b=c`` strings, see ``apply_override``; the value is read as YAML.

    Raises:
        EchoFedError: CONFIG_MISSING, CONFIG_UNKNOWN_KEY or CONFIG_INVALID with the dotted path.
    """
    tree = _read_tree(path, "run init first or pass --config")
    for override in overrides:
        apply_override(tree, override)
    return build_settings(kind, tree)


def build_settings(kind: type[S], tree: Mapping[str, Any]) -> S:
    """Validate a plain tree; errors name the dotted path and the nearest known key."""
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        dotted = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise EchoFedError(
                Code.CONFIG_UNKNOWN_KEY, f"unknown setting {dotted!r}", _nearest(kind, first["loc"])
            ) from error
        raise EchoFedError(
            Code.CONFIG_INVALID, f"setting {dotted!r}: {first['msg']}", "mend the value"
        ) from error


def dump_settings(settings: Settings) -> dict[str, Any]:
    """The resolved tree as plain values."""
    return settings.model_dump(mode="json")


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, bool | int | float | str | None]:
    """A settings tree as one level of dotted keys; lists become words with commas."""
    flat: dict[str, bool | int | float | str | None] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            flat[prefix + name] = ",".join(map(str, value))
        else:
            flat[prefix + name] = value
    return flat


def hash_settings(settings: Settings) -> str:
    """SHA-256 of the resolved tree in canonical JSON (RFC 8785)."""
    return hashlib.sha256(rfc8785.dumps(dump_settings(settings))).hexdigest()


def save_settings(settings: Settings) -> str:
    """The resolved tree as YAML text."""
    return yaml.safe_dump(dump_settings(settings), sort_keys=False, allow_unicode=True)


def apply_override(tree: dict[str, Any], override: str) -> None:
    """Write one ``a.b=c`` into a plain tree; ``a.b=@file`` takes a part from a YAML file.

    Raises:
        EchoFedError: CONFIG_INVALID, CONFIG_MISSING for a file that is not there.
    """
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise EchoFedError(
            Code.CONFIG_INVALID, f"--set {override!r} is not of the form a.b=c", "add '='"
        )
    *parents, leaf = key.split(".")
    node = tree
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            raise EchoFedError(
                Code.CONFIG_INVALID, f"setting {parent!r} of {key!r} has no parts", "shorten it"
            )
        node = child
    if text.startswith("@"):  # no YAML value begins so
        node[leaf] = _read_tree(Path(text[1:]), "name a YAML file after @")
    else:
        node[leaf] = yaml.safe_load(text)


def _read_tree(path: Path, hint: str) -> dict[str, Any]:
    if not path.is_file():
        raise EchoFedError(Code.CONFIG_MISSING, f"there is no settings file {path.name}", hint)
    try:
        tree = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise EchoFedError(Code.CONFIG_INVALID, f"{path.name} is not YAML", str(error)) from error
    if not isinstance(tree, dict):
        raise EchoFedError(
            Code.CONFIG_INVALID, f"{path.name} is not a mapping", "start it with key: value"
        )
    return tree


def _nearest(kind: type[Settings], location: Sequence[int | str]) -> str:
    model: type[BaseModel] | None = kind
    for part in location[:-1]:
        field = model.model_fields.get(str(part)) if model else None
        annotation = field.annotation if field else None
        model = (
            annotation
            if isinstance(annotation, type) and issubclass(annotation, BaseModel)
            else None
        )
    known = list(model.model_fields) if model else []
    near = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
