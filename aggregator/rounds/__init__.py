"""What the centre can ask of its sites: action -> function of the grid, the settings file and the request."""

from collections.abc import Callable
from typing import Any

from shared.registry import Registry

ACTIONS: Registry[Callable[..., dict[str, Any]]] = Registry(
    "action",
    {
        "roll_call": "aggregator.rounds.roll_call:run",
    },
)
