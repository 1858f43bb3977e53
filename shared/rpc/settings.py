"""How services are held and how models beside them compute; both houses have it in settings."""

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
    max_drawn: Positive = 4
    """Images that a synthesizer draws at once; each takes seconds, and others wait as long."""
    threads: Positive = 2
    """Threads of each process."""
    num_models: Positive = 4
    """Models that stand at once, each in its own process."""


class ServerSettings(Settings):
    """Services that a house holds for others."""

    port: Annotated[int, Field(ge=0, le=65535)] = 8445
    """Port of the services, with mutual TLS; 0 takes a free one."""
    num_calls: Positive = 8
    """Calls under way at once; who comes on top is told to try again."""
    num_per_caller: Positive = 4
    """Calls of one caller under way at once; the house's own commands are one caller."""
    longest_job_s: Positive = 3600
    """How long a job may run; a synthesizer draws a thousand images in about that on a CPU."""
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Loopback port on which Prometheus finds counts of the calls; 0 shows none."""
    worker: WorkerSettings = WorkerSettings()
