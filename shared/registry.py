"""A table of names: name -> ``"module:attribute"``, loaded when it is first used."""

import difflib
from collections.abc import Mapping
from importlib import import_module
from typing import Generic, TypeVar, cast

from shared.errors import Code, EchoFedError

T = TypeVar("T")


class Registry(Generic[T]):
    """A literal table that imports nothing until a name is asked for."""

    def __init__(self, kind: str, table: Mapping[str, str]) -> None:
        """Keep the table; ``kind`` names it in errors."""
        self._kind = kind
        self._table = dict(table)

    def names(self) -> tuple[str, ...]:
        """All names in the order of the table."""
        return tuple(self._table)

    def __contains__(self, name: str) -> bool:
        """Tell whether the table has the name."""
        return name in self._table

    def __getitem__(self, name: str) -> T:
        """Load what the name stands for.

        Raises:
            EchoFedError: NAME_UNKNOWN with the nearest name.
        """
        if name not in self._table:
            near = difflib.get_close_matches(name, self._table, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(self._table)}"
            raise EchoFedError(Code.NAME_UNKNOWN, f"no {self._kind} is called {name!r}", hint)
        module, attribute = self._table[name].split(":")
        return cast(T, getattr(import_module(module), attribute))
