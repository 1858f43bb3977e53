"""Services that a site hosts for machines of its hospital, and the way to them.

They have an authority of their own: the federation's centre cannot admit anybody to them, and a
site without a centre needs none.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
from shared.rpc.peer import Credentials
from shared.services.house import House, running_house
from shared.services.running import RunningModels
from site_client.models import load_trusted_folder
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


def trusted_models(store: SiteStore, settings: ServicesSettings, *, site: str) -> RunningModels:
    """The site's models by alias and by id; what it neither trained nor trusts is refused."""
    return RunningModels(
        lambda: _folders(store),
        settings.worker,
        load=lambda folder: load_trusted_folder(store, folder, site=site),
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
    house = House(
        store.root / "jobs",
        Credentials(authority.ca_pem, authority.server_pem, authority.server_key),
        trusted_models(store, settings, site=site),
    )
    listen = settings.host if settings.host in LOOPBACK else "0.0.0.0"
    with running_house(house, settings, names, listen=listen) as port:
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
    known = store.models()
    aliases = store.aliases().items()
    return known | {alias: known[name] for alias, name in aliases if name in known}
