"""Services that a site hosts for machines of its hospital, and the way to them.

They have an authority of their own: the federation's centre cannot admit anybody to them, and a
site without a centre needs none.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from shared.errors import Code, EchoFedError
from shared.rpc.authority import (
    Authority,
    create_authority,
    ensure_caller_certificate,
    ensure_server_certificate,
)
from shared.rpc.channel import DEADLINE_S, Channel, open_channel
from shared.rpc.gate import Limits
from shared.rpc.metrics import CallMetrics, running_metrics
from shared.rpc.peer import Credentials
from shared.rpc.server import Watch, running_server
from shared.services import SERVICES
from shared.services.host import Host
from shared.services.segmenters import RunningSegmenters
from site_client.models import load_trusted
from site_client.settings import ServicesSettings
from site_client.store import SiteStore

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Hospital:
    """Where a site keeps the authority of its own services."""

    folder: Path

    @property
    def authority(self) -> Authority:
        return Authority(self.folder)

    @property
    def own(self) -> Credentials:
        """With which the site's own commands call."""
        return Credentials(
            self.authority.ca_pem, self.folder / "caller.pem", self.folder / "caller.key"
        )


def hospital_of(store: SiteStore) -> Hospital:
    """The authority of a site's services, which may not be there yet."""
    return Hospital(store.identity_folder / "hospital")


def ensure_hospital(
    store: SiteStore, settings: ServicesSettings, *, site: str, now: datetime
) -> None:
    """Make what is missing or near its end: authority, server's and own caller's certificate."""
    hospital = hospital_of(store)
    if not hospital.authority.ca_key.is_file():
        create_authority(hospital.folder, f"{site} hospital", now=now)
    ensure_server_certificate(hospital.authority, [settings.host], now=now)
    ensure_caller_certificate(hospital.authority, hospital.own, site, role="site", now=now)


def running_segmenters(
    store: SiteStore, settings: ServicesSettings, *, site: str
) -> RunningSegmenters:
    """The site's segmenters by alias and by id; what it neither trained nor trusts is refused."""
    return RunningSegmenters(
        lambda: _folders(store),
        settings.worker,
        load=lambda folder: load_trusted(store, folder.name, site=site),
    )


@contextmanager
def running_services(
    store: SiteStore, settings: ServicesSettings, names: Sequence[str], *, site: str
) -> Iterator[int]:
    """Hold services of the table; ``ensure_hospital`` comes first.

    Args:
        store: the site's.
        settings: where and how much.
        names: of the services.
        site: site code.

    Yields:
        The port.

    Raises:
        EchoFedError: NAME_UNKNOWN, or CENTRE_UNREACHABLE where a port is taken.
    """
    authority = hospital_of(store).authority
    listen = settings.host if settings.host in LOOPBACK else "0.0.0.0"
    metrics, shown = CallMetrics(), settings.metrics_port
    running = running_segmenters(store, settings, site=site)
    metrics.watch_workers(running.statistics)
    with (
        running_metrics(metrics, port=shown) if shown else nullcontext(),
        running.running() as segmenters,
        running_server(
            [SERVICES[name](Host(store.root / "jobs", segmenters=segmenters)) for name in names],
            Credentials(authority.ca_pem, authority.server_pem, authority.server_key),
            address=f"{listen}:{settings.port}",
            limits=Limits(num_calls=settings.num_calls, num_per_caller=settings.num_per_caller),
            revoked_keys=lambda: (),
            watch=Watch(metrics=metrics),
        ) as port,
    ):
        yield port


@contextmanager
def open_own_services(
    store: SiteStore, settings: ServicesSettings, *, deadline_s: float = DEADLINE_S
) -> Iterator[Channel]:
    """Open a connection to the services that this site hosts itself.

    Raises:
        EchoFedError: CONFIG_MISSING where ``serve`` never ran here; calls raise CENTRE_UNREACHABLE
            where it does not run now.
    """
    own = hospital_of(store).own
    if not own.certificate.is_file():
        raise EchoFedError(
            Code.CONFIG_MISSING, "this site has never hosted services", "run echofed-site serve"
        )
    with open_channel(f"{settings.host}:{settings.port}", own, deadline_s=deadline_s) as channel:
        yield channel


def _folders(store: SiteStore) -> dict[str, Path]:
    known = {name: store.segmenter_folder(name) for name in store.segmenters()}
    aliases = store.aliases().items()
    return known | {alias: known[name] for alias, name in aliases if name in known}
