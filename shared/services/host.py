"""What the host of a service gives it: models that answer, and a folder for its jobs."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from shared.errors import Code, EchoFedError
from shared.rpc.deadline import Call
from shared.rpc.jobs import JobLimits
from shared.rpc.peer import Peer
from shared.services.store import ModelStore, StoredModel

if TYPE_CHECKING:  # a host of other services needs no networks
    from shared.segmentation.answer import Segmenters
    from shared.synthesis.answer import Drawer


class SegmenterStore(Protocol):
    """The segmenters of a host by alias, ready to answer."""

    def find(self, alias: str, *, caller: Peer, call: Call) -> "Segmenters":
        """Return what the alias stands for now.

        Args:
            alias: as the caller wrote it.
            caller: for whom they answer.
            call: until when, for networks that run elsewhere.

        Raises:
            EchoFedError: MODEL_UNKNOWN.
        """
        ...


class SynthesizerStore(Protocol):
    """The synthesizers of a host by alias, ready to draw."""

    def find(self, alias: str, *, caller: Peer, call: Call) -> "Drawer":
        """Return what the alias stands for now.

        Args:
            alias: as the caller wrote it.
            caller: for whom it draws.
            call: until when, for networks that run elsewhere.

        Raises:
            EchoFedError: MODEL_UNKNOWN.
        """
        ...


class NoModels:
    """The store of a host that sends no models."""

    def find(self, alias: str, *, caller: Peer) -> StoredModel:
        raise _unknown(alias)


class NoSegmenters:
    """The store of a host without segmenters."""

    def find(self, alias: str, *, caller: Peer, call: Call) -> "Segmenters":
        raise _unknown(alias)


class NoSynthesizers:
    """The store of a host without synthesizers."""

    def find(self, alias: str, *, caller: Peer, call: Call) -> "Drawer":
        raise _unknown(alias)


@dataclass(frozen=True, slots=True)
class Host:
    """What services are built from; each takes what it needs.

    Args:
        jobs_folder: of this host alone; each service keeps its jobs in a folder of its name.
        models: that others may fetch.
        segmenters: that answer here.
        synthesizers: that draw here.
        job_limits: of each service.
    """

    jobs_folder: Path
    models: ModelStore = field(default_factory=NoModels)
    segmenters: SegmenterStore = field(default_factory=NoSegmenters)
    synthesizers: SynthesizerStore = field(default_factory=NoSynthesizers)
    job_limits: JobLimits = field(default_factory=JobLimits)


def _unknown(alias: str) -> EchoFedError:
    return EchoFedError(
        Code.MODEL_UNKNOWN, f"nothing here is called {alias[:80]!r}", "ask the host what it serves"
    )
