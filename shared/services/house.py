"""What a house holds so that others may call it: its models, its services, and their figures."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from shared.rpc.gate import Limits
from shared.rpc.jobs import JobLimits
from shared.rpc.metrics import CallMetrics, running_metrics
from shared.rpc.peer import Credentials
from shared.rpc.server import Watch, running_server
from shared.rpc.settings import ServerSettings
from shared.services import SERVICES
from shared.services.host import Host, NoModels
from shared.services.running import RunningModels
from shared.services.segmenters import RunningSegmenters
from shared.services.store import ModelStore
from shared.services.synthesizers import RunningSynthesizers


@dataclass(frozen=True, slots=True)
class House:
    """A centre or a site, as far as its services are concerned.

    Args:
        folder: in which the services keep their jobs.
        credentials: of the server.
        running: the models that answer.
        models: those that others may fetch.
        revoked_keys: of callers that are turned away, asked at every call.
    """

    folder: Path
    credentials: Credentials
    running: RunningModels
    models: ModelStore = field(default_factory=NoModels)
    revoked_keys: Callable[[], Collection[str]] = tuple


@contextmanager
def running_house(
    house: House, settings: ServerSettings, names: Sequence[str], *, listen: str
) -> Iterator[int]:
    """Hold services of the table, and their metrics where the settings name a port.

    Args:
        house: whose models and certificates count.
        settings: how much.
        names: of the services.
        listen: address to listen on.

    Yields:
        The port.

    Raises:
        EchoFedError: NAME_UNKNOWN, or CENTRE_UNREACHABLE where a port is taken.
    """
    metrics, shown = CallMetrics(), settings.metrics_port
    metrics.watch_workers(house.running.statistics)
    with (
        running_metrics(metrics, port=shown) if shown else nullcontext(),
        house.running.running() as running,
    ):
        host = Host(
            house.folder,
            house.models,
            RunningSegmenters(running),
            RunningSynthesizers(running),
            JobLimits(longest_s=settings.longest_job_s),
        )
        with running_server(
            [SERVICES[name](host) for name in names],
            house.credentials,
            address=f"{listen}:{settings.port}",
            limits=Limits(num_calls=settings.num_calls, num_per_caller=settings.num_per_caller),
            revoked_keys=house.revoked_keys,
            watch=Watch(metrics=metrics),
        ) as port:
            yield port
