"""The services, one line each; a host builds them from the models that it stores."""

from collections.abc import Callable

from shared.registry import Registry
from shared.rpc.server import Service
from shared.services.store import ModelStore

SERVICES: Registry[Callable[[ModelStore], Service]] = Registry(
    "service",
    {
        "models": "shared.services.models:build",
    },
)
