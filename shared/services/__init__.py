"""The services, one line each; a host builds them from what it has."""

from collections.abc import Callable

from shared.registry import Registry
from shared.rpc.server import Service
from shared.services.host import Host

SERVICES: Registry[Callable[[Host], Service]] = Registry(
    "service",
    {
        "models": "shared.services.models:build",
        "segmentation": "shared.services.segmentation:build",
        "synthesis": "shared.services.synthesis:build",
    },
)
