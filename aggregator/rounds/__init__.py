"""What the centre can ask of its sites: action -> function of grid, settings file and request."""

from collections.abc import Callable
from typing import Any

from shared.registry import Registry

ACTIONS: Registry[Callable[..., dict[str, Any]]] = Registry(
    "action",
    {
        "roll_call": "aggregator.rounds.roll_call:run",
        "increment": "aggregator.rounds.actions:increment",
        "delivery": "aggregator.rounds.actions:delivery",
        "average": "aggregator.rounds.actions:average",
    },
)
