"""How models beside a service compute; both houses have it in their settings."""

from typing import Annotated

from pydantic import Field

from shared.settings import Settings

Positive = Annotated[int, Field(gt=0)]


class WorkerSettings(Settings):
    """Processes in which models of services compute."""

    latency_ms: Annotated[float, Field(ge=0)] = 10.0
    """How long a request may wait for company while nothing is computed."""
    max_batch: Positive = 8
    """Frames that are computed at once."""
    threads: Positive = 2
    """Threads of each process."""
    num_models: Positive = 4
    """Models that stand at once, each in its own process."""
