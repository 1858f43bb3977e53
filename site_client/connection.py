"""The way to the centre's services: the address from the kit, the certificate of the site."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from shared.errors import Code, EchoFedError
from shared.rpc.channel import DEADLINE_S, Channel, open_channel
from shared.rpc.peer import Credentials
from site_client.identity import Identity, expect_certificate
from site_client.settings import CentreSettings
from site_client.store import SiteStore


@contextmanager
def open_services(
    store: SiteStore,
    centre: CentreSettings | None,
    *,
    now: datetime,
    deadline_s: float = DEADLINE_S,
) -> Iterator[Channel]:
    """Open a connection to the services that the centre hosts, in the role of a site.

    Args:
        store: the site's, with its identity.
        centre: where the centre is; None at a standalone site.
        now: aware time.
        deadline_s: of calls that name none.

    Raises:
        EchoFedError: CONFIG_INVALID at a standalone site, CONFIG_MISSING where the kit named no
            services or no certificate was imported, CERTIFICATE_EXPIRED.
    """
    if centre is None:
        raise EchoFedError(
            Code.CONFIG_INVALID,
            "this site belongs to no federation",
            "run init with the centre's kit",
        )
    if not centre.services:
        raise EchoFedError(
            Code.CONFIG_MISSING,
            "the kit of this site did not say where the centre's services are",
            "ask the centre for host and port, and write them to centre.services in site.yaml",
        )
    identity = Identity(store.identity_folder)
    expect_certificate(identity, now=now)
    shown = Credentials(identity.ca, identity.certificate, identity.tls_key)
    with open_channel(centre.services, shown, deadline_s=deadline_s) as channel:
        yield channel
